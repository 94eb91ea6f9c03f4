"""Labels of applications: which of two wins, and what a command may set.

Access is decided by labels, so what a command printed on an agent's machine never replaces
what a person wrote, and can't pose as a label that tport itself sets.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from typing import Final

from tport.engine.errors import InvalidRequest
from tport.engine.types.app import DynamicLabel, is_label

FAILED: Final = "error"  # the value of a dynamic label whose command failed; never grants access
MIN_PERIOD: Final = 1.0  # s between two runs of one command

_RESERVED: Final = ("teleport.", "tport.", "dynamic/")  # prefixes no command may claim


def check_dynamic_label(label: DynamicLabel) -> DynamicLabel:
    """Return `label` when its command may be run.

    Raises:
        InvalidRequest: a reserved name, no absolute path, a period below a second.
    """
    if not is_label(label.name, "") or is_reserved(label.name):
        raise InvalidRequest(f"{label.name[:80]!r} can't be the name of a dynamic label")
    if not label.command or not os.path.isabs(label.command[0]):
        raise InvalidRequest(
            f"label {label.name!r}: the command must begin with an absolute path",
            hint='a list, without a shell: ["/usr/bin/uname", "-r"]',
        )
    if any("\0" in argument for argument in label.command):
        raise InvalidRequest(f"label {label.name!r}: the command holds a NUL")
    if not label.period >= MIN_PERIOD:
        raise InvalidRequest(f"label {label.name!r}: the period is below {MIN_PERIOD:g} s")
    return label


def is_reserved(key: str) -> bool:
    """Tell whether only tport may set a label of this key, never a command."""
    return key.lower().startswith(_RESERVED)


def merge_labels(static: Mapping[str, str], dynamic: Mapping[str, str]) -> dict[str, str]:
    """Return both, a static label before a dynamic one of its key.

    Dynamic labels that may not exist are left out: they come from an agent.
    """
    allowed = {k: v for k, v in dynamic.items() if is_label(k, v) and not is_reserved(k)}
    return {**allowed, **static}
