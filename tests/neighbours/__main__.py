"""Print what this version writes and reads, a line for each part."""

from __future__ import annotations

import json
import sys

from tests.neighbours import describe

found = describe()
parts = [f'"version": {json.dumps(found["version"])}']
for name in ("what", "parts"):
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in found[name].items()]
    parts.append(f'"{name}": {{\n' + ",\n".join(lines) + "\n}")
sys.stdout.write("{" + ",\n".join(parts) + "}\n")
