"""TLS-10 as testssl.sh sees it: nothing above LOW. It takes over a minute, so it is among the heavy tests."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import msgspec
import pytest
import trio

from tests.e2e.harness import need
from tests.stack import DOMAIN, open_stack

TESTSSL = shutil.which("testssl") or shutil.which("testssl.sh")
ABOVE_LOW = {"MEDIUM", "HIGH", "CRITICAL"}  # WARN is what the scanner itself can't do
MEANT = {
    "cert_chain_of_trust",  # our own authority is in no list of the scanner's
    "cert_revocation",  # and its leaves live for 90 days
    "cipher_order",  # Mozilla's "intermediate" leaves it to the client: all suites are good
}
DEADLINE = 300.0  # s; 60 of them on two cores with nothing else to do


class Finding(msgspec.Struct):
    id: str
    severity: str
    finding: str


@pytest.mark.torture
async def test_tls_10_testssl_finds_nothing_above_low() -> None:
    """TLS-10: by a second scanner, which tries attacks too."""
    need("testssl.sh", TESTSSL, "apt-get install testssl.sh")
    with tempfile.TemporaryDirectory(prefix="tport-") as name:
        found = Path(name, "found.json")
        async with open_stack(drain=False) as stack:
            with trio.fail_after(DEADLINE):
                await trio.run_process(
                    [
                        *(str(TESTSSL), "--quiet", "--color", "0", "--fast", "--warnings", "off"),
                        *("--ip", "127.0.0.1", "--jsonfile", str(found)),
                        f"{DOMAIN}:{stack.port}",
                    ],
                    capture_stdout=True,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
        data = await trio.Path(found).read_bytes()
    findings = msgspec.json.decode(data, type=list[Finding])
    assert len(findings) > 40, "it scanned nothing"
    assert [f for f in findings if f.severity in ABOVE_LOW and f.id not in MEANT] == []
