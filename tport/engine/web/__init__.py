"""The web pages: signing in, invites, applications, and what is said when something fails."""
