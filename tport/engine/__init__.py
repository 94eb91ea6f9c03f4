"""The engine: everything tport does, below its command line."""
