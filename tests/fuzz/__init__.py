"""Parsers under any bytes: see `targets`, and `make fuzz` in CONTRIBUTING.md."""
