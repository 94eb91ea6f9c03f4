"""A file per command: parse, one call of the engine, print. Nothing here knows HTTP, TLS or SQL."""
