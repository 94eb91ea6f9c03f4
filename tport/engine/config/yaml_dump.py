"""Plain values as YAML text that no terminal obeys. Pure."""

from __future__ import annotations

from io import StringIO
from typing import Final

from ruamel.yaml import YAML

_UNFOLDED: Final = 2**31  # a key in PEM form stays whole; ruamel folds text with escapes wrongly


def dumped(value: object, *, in_order: bool = False) -> str:
    """Return dicts, lists and plain values as a document; keys sorted, or in the order they are in.

    Others wrote parts of it: where anything in it isn't printable, all that isn't ASCII is escaped.
    """
    text = _dumped(value, in_order, escaped=False)
    if text.replace("\n", "").isprintable():
        return text
    return _dumped(value, in_order, escaped=True)


def _dumped(value: object, in_order: bool, *, escaped: bool) -> str:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = _UNFOLDED
    yaml.allow_unicode = not escaped
    if in_order:
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # an untyped setting
    text = StringIO()
    yaml.dump(value, text)
    return text.getvalue()
