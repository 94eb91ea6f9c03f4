"""The vocabulary: frozen values that every layer speaks of. No I/O, no clock, no policy.

Structs are `msgspec.Struct`: they travel as JSON between services and lie as JSON in the
Backend. Unknown fields are ignored when read, so that versions one apart understand each
other; what people write (files, YAML) is checked strictly in `config` instead.
"""
