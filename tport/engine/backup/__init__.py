"""A cluster's state as one file, and back."""
