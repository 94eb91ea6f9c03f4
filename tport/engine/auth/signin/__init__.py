"""How a person signs in, from the password to the session, and how that is set."""
