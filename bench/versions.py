"""What was measured with: programs, libraries and the machine."""

from __future__ import annotations

import os
import platform
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from bench.parts import program

_PROGRAMS: Final[Mapping[str, Sequence[str]]] = {
    "nginx": ("nginx", "-v"),
    "OpenSSH": ("ssh", "-V"),
    "Caddy": ("caddy", "version"),
    "mitmproxy": ("mitmdump", "--version"),
    "haproxy": ("haproxy", "-v"),
    "wrk": ("wrk", "-v"),
    "h2load": ("h2load", "--version"),
    "curl": ("curl", "--version"),
}
_LIBRARIES: Final = ("trio", "h11", "cryptography", "msgspec")


def versions() -> dict[str, str]:
    """Return name → what it says of itself, in one line."""
    found = {name: _said(*argv) for name, argv in _PROGRAMS.items()}
    found |= {name: version(name) for name in _LIBRARIES}
    found["tport"] = version("tport")
    found["Python"] = platform.python_version()
    found["OpenSSL of Python"] = ssl.OPENSSL_VERSION
    found["system"] = f"{_os_name()}, Linux {platform.release()}"
    cpu = cpu_name(Path("/proc/cpuinfo").read_text())
    found["machine"] = f"{os.cpu_count()} CPUs ({cpu}), {_memory_gib()} GiB"
    return found


def _said(name: str, argument: str) -> str:
    done = subprocess.run(
        [program(name), argument], capture_output=True, text=True, timeout=30, check=False
    )
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def _os_name() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "?")


def cpu_name(cpuinfo: str) -> str:
    """Return what /proc/cpuinfo says of the first CPU: its name, and which of that name it is.

    Clouds call ten years of CPUs "AMD EPYC"; family and model tell them apart.
    """
    fields = dict[str, str]()
    for line in cpuinfo.partition("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    if "model name" not in fields:  # as on ARM
        return platform.machine()
    which = [f"{part} {fields[part]}" for part in ("cpu family", "model") if part in fields]
    return ", ".join((fields["model name"], *which)).replace("cpu family", "family")


def _memory_gib() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
