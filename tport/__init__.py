"""tport: a safe way to reach internal web applications."""

from __future__ import annotations

import sys

__version__ = "0.2.0"
VERSION_LINE = f"tport {__version__} (Python {sys.version.split()[0]})"
