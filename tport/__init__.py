"""tport: a safe way to reach internal web applications."""

__version__ = "0.2.0"
