"""What a version writes to its neighbours and reads of them, as JSON Schema; and whether two go together.

    python -m tests.neighbours > tests/neighbours/0.2.json      # when 0.2 is released

It says the calls of AuthAPI with their arguments and answers, and the messages of the tunnel. Each
structure has its name and its fields once, under "parts".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

Schema = Mapping[str, Any]

# Of a schema that is true of what is written, and looked at where it is read: who reads may not ask for more.
_AT_MOST: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_AT_LEAST: Final = ("minimum", "exclusiveMinimum", "minLength", "minProperties")
_DEPTH: Final = 64


def describe() -> dict[str, Any]:
    """Return what the version that is imported writes and reads."""
    from tport import __version__
    from tport.engine.api import wire
    from tport.engine.proto import tunnel

    what: dict[str, Any] = {}
    for name, call in wire.CALLS.items():
        what[f"{name}: arguments"] = call.request
        what[f"{name}: answer"] = call.answer
    what["tunnel: control"] = tunnel.Control
    what["tunnel: request"] = tunnel.RequestHead
    what["tunnel: answer"] = tunnel.Answer
    return {"version": __version__, **described(what)}


def described(what: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schemas of types by the names given, and of the structs in them."""
    whole, parts = msgspec.json.schema_components(
        list(what.values()), ref_template="{name}", schema_hook=lambda _: {"title": "anything"}
    )
    omitting = {each.__name__ for each in _structs(msgspec.Struct) if _omits(each)}
    for name, part in parts.items():
        if name in omitting:
            part["omits_defaults"] = True
    return {
        "what": {name: _plain(schema) for name, schema in zip(what, whole, strict=True)},
        "parts": {name: _plain(part) for name, part in parts.items()},
    }


def unread(
    written: Schema, by: Schema, read: Schema, of: Schema, at: str = "", depth: int = 0
) -> Iterator[str]:
    """Yield what may be written that can't be read, a line each.

    Args:
        written: a schema of who writes; `by` has all of its parts.
        read: the schema of who reads; `of` has all of its parts.
        at: where in the message that is.
    """
    written, read = _resolved(written, by), _resolved(read, of)
    if depth > _DEPTH or read.get("title") == "anything":  # deeper: a structure inside itself
        return
    if "anyOf" in written:
        for each in written["anyOf"]:
            yield from unread(each, by, read, of, at, depth + 1)
        return
    if "anyOf" in read:
        tries = [list(unread(written, by, each, of, at, depth + 1)) for each in read["anyOf"]]
        yield from min(tries, key=len)
        return
    if "enum" in read:
        missing = set(_values(written)) - set(read["enum"])
        if missing or "enum" not in written:
            yield f"{at}: {_shown(written, missing)} is none of {sorted(read['enum'], key=str)}"
        return
    if _kind(written) != _kind(read) and (_kind(written), _kind(read)) != ("integer", "number"):
        yield f"{at}: {_kind(written)} is written, {_kind(read)} is read"
        return
    for limit in (*_AT_MOST, *_AT_LEAST, "pattern", "contentEncoding"):
        if limit in read and not _within(limit, written.get(limit), read[limit]):
            yield f"{at}: {limit} {read[limit]} is asked for, and {written.get(limit)} is written"
    if _kind(read) == "object":
        yield from _unread_object(written, by, read, of, at, depth + 1)
    elif _kind(read) == "array":
        yield from _unread_array(written, by, read, of, at, depth + 1)


def _unread_object(
    written: Schema, by: Schema, read: Schema, of: Schema, at: str, depth: int
) -> Iterator[str]:
    theirs, ours = written.get("properties", {}), read.get("properties", {})
    always = set(written.get("required", ())) if written.get("omits_defaults") else set(theirs)
    for name in sorted(set(read.get("required", ())) - always):
        yield f"{at}.{name}: is read, and not written"
    if read.get("additionalProperties") is False:
        for name in sorted(always - set(ours)):
            yield f"{at}.{name}: is written, and refused"
    for name in sorted(set(theirs) & set(ours)):
        yield from unread(theirs[name], by, ours[name], of, f"{at}.{name}", depth)
    values = (written.get("additionalProperties"), read.get("additionalProperties"))
    if isinstance(values[0], Mapping) and isinstance(values[1], Mapping):
        yield from unread(values[0], by, values[1], of, f"{at}{{}}", depth)


def _unread_array(
    written: Schema, by: Schema, read: Schema, of: Schema, at: str, depth: int
) -> Iterator[str]:
    theirs, ours = written.get("prefixItems", []), read.get("prefixItems", [])
    if "prefixItems" in read and len(theirs) < read.get("minItems", 0):
        yield f"{at}: {len(theirs)} fields are written, {read['minItems']} are read"
    for place, (one, other) in enumerate(zip(theirs, ours, strict=False)):
        yield from unread(one, by, other, of, f"{at}[{place}]", depth)
    if isinstance(written.get("items"), Mapping) and isinstance(read.get("items"), Mapping):
        yield from unread(written["items"], by, read["items"], of, f"{at}[]", depth)


def _within(limit: str, written: Any, read: Any) -> bool:
    if written is None:
        return False
    if limit in _AT_MOST:
        return bool(written <= read)
    return bool(written >= read) if limit in _AT_LEAST else bool(written == read)


def _resolved(schema: Schema, described: Schema) -> Schema:
    name = schema.get("$ref")
    return schema if name is None else described["parts"][name]


def _kind(schema: Schema) -> str:
    if "enum" in schema:
        return {str: "string", int: "integer"}.get(type(schema["enum"][0]), "null")
    return str(schema.get("type", "anything"))


def _values(schema: Schema) -> list[Any]:
    return list(schema.get("enum", []))


def _shown(schema: Schema, missing: set[Any]) -> str:
    return ", ".join(sorted(map(str, missing))) if missing else f"any {_kind(schema)}"


def _plain(schema: Any) -> Any:
    """Leave out what is for people, and what nobody checks."""
    if isinstance(schema, dict):
        # A field may be called so, too: then it is a schema, and no text.
        return {
            key: _plain(value)
            for key, value in schema.items()
            if not (key in ("description", "default", "discriminator") and _is_note(value, key))
            and not (key == "title" and value != "anything" and isinstance(value, str))
        }
    return [_plain(each) for each in schema] if isinstance(schema, list) else schema


def _is_note(value: Any, key: str) -> bool:
    is_schema = isinstance(value, dict) and bool({"type", "$ref", "anyOf", "enum"} & set(value))
    return not is_schema or key == "discriminator"


def _structs(base: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for each in base.__subclasses__():
        yield each
        yield from _structs(each)


def _omits(struct: type[msgspec.Struct]) -> bool:
    return bool(struct.__struct_config__.omit_defaults)
