"""TLS-10 as a scanner sees it: Mozilla's "intermediate", at the proxy's name and an application's."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import trio

from tests.e2e.harness import need
from tests.stack import DOMAIN, Stack, open_stack

SSLYZE = Path(".test/sslyze/bin/sslyze")
IS_HERE = SSLYZE.exists()


async def scan(stack: Stack, host: str, folder: Path) -> str:
    """Return what the scanner says; it ends with 0 only when all is as Mozilla wants it."""
    ca = folder / "ca.pem"
    ca.write_text(stack.ca)
    done = await trio.run_process(
        [
            *(str(SSLYZE), f"--certinfo_ca_file={ca}", "--mozilla_config=intermediate"),
            f"{host}:{stack.port}{{127.0.0.1}}",
        ],
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
    )
    said = str(done.stdout.decode(errors="replace"))
    assert done.returncode == 0, said[-3000:]
    return said


async def test_tls_10_a_scanner_finds_mozillas_intermediate_profile() -> None:
    """TLS-10: versions, suites, groups, the certificate's kind and its life."""
    need("sslyze", IS_HERE, "make test-deps installs it")
    with tempfile.TemporaryDirectory(prefix="tport-") as name:
        async with open_stack(drain=False) as stack:
            for host in (DOMAIN, stack.host("echo")):
                said = await scan(stack, host, Path(name))
                assert "Compliant" in said
