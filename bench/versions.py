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
    found["machine"] = f"{os.cpu_count()} CPUs ({_cpu_name()}), {_memory_gib()} GiB"
    return found


def _said(name: str, argument: str) -> str:
    done = subprocess.run(
        [program(name), argument], capture_output=True, text=True, timeout=30, check=False
    )
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def _os_name() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "?")


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
