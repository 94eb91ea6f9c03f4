"""Who may do what, and whom a lock keeps out."""
