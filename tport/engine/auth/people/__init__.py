"""People: their accounts, what they change of them, and the roles they ask for."""
