"""Where the values of a `Config` come from: lines of the file, the environment, flags. Pure.

A setting without an origin has its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from tport.engine.types.setting import Origin

if TYPE_CHECKING:
    from tport.engine.config.flags import StartFlags
    from tport.engine.config.read import Reading
    from tport.engine.config.resolve import Machine

Origins = Mapping[str, Origin]

DATA_DIR: Final = "tport.data_dir"

# Of an agent's applications, which may be many, nobody asks it.
_SECTIONS: Final = ("tport.", "teleport.", "auth_service.", "proxy_service.")

# The flags of `tport start`, and what they set.
_FLAGS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "roles": ("--roles", ("auth_service.enabled", "proxy_service.enabled")),
    "token": ("--token", ("tport.auth_token",)),
    "auth_server": ("--auth-server", ("tport.proxy_server",)),
    "ca_pin": ("--ca-pin", ("tport.ca_pin",)),
    "data_dir": ("--data-dir", (DATA_DIR,)),
    "diag_addr": ("--diag-addr", ("tport.diag_addr",)),
    "log_format": ("--log-format", ("tport.log.format.output",)),
    "log_level": ("--log-level", ("tport.log.severity",)),
    "debug": ("--debug", ("tport.log.severity",)),
}


def file_origins(reading: Reading, name: str, machine: Machine) -> Origins:
    """Return where the settings come from that the file, called `name`, or the environment gives."""
    found: dict[str, Origin] = {}
    if machine.env.get("TPORT_DATA_DIR"):
        found[DATA_DIR] = Origin("environment", "$TPORT_DATA_DIR")
    for path, line in reading.given():
        if path.startswith(_SECTIONS):
            section, _, rest = path.partition(".")
            here = f"tport.{rest}" if section == "teleport" else path
            found[here] = Origin("file", f"{name}:{line}")
    return found


def flag_origins(flags: StartFlags) -> Origins:
    """Return where the settings come from that a flag gives, or a variable in its place."""
    found: dict[str, Origin] = {}
    for field, (flag, paths) in _FLAGS.items():
        if getattr(flags, field):
            variable = flags.from_environment.get(field)
            origin = Origin("environment", f"${variable}") if variable else Origin("flag", flag)
            found.update(dict.fromkeys(paths, origin))
    return found
