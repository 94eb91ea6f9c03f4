"""People whom identity providers prove: connectors, and signing in by them."""
