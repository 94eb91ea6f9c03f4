"""How a command finds its cluster and opens an AuthAPI."""
