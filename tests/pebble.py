"""Pebble, the CA of Let's Encrypt's developers, with the DNS that it asks: `apt-get install pebble`.

Every name leads to 127.0.0.1; pebble comes to the ports that it is told.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import trio
import trustme

from tests.e2e.harness import need
from tests.ports import free_port

PATIENCE = 60.0  # s until pebble answers


@dataclass(frozen=True)
class Ports:
    """Where everything listens; chosen before anything does."""

    acme: int
    management: int
    dns: int
    dns_management: int


class Pebble:
    """A running pebble.

    Attributes:
        ca_file: by which its own HTTPS is known.
    """

    def __init__(
        self, ports: Ports, ca_file: Path, nursery: trio.Nursery, run: Callable[..., Any]
    ) -> None:
        self.ports = ports
        self.ca_file = ca_file
        self._nursery = nursery
        self._run = run
        self._process: trio.Process

    @property
    def directory(self) -> str:
        return f"https://localhost:{self.ports.acme}/dir"

    async def root(self) -> str:
        """Return the certificate of the root that it issues under; another after each start."""
        return (await self._get(f"https://localhost:{self.ports.management}/roots/0")).text

    async def _get(self, url: str) -> httpx2.Response:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        async with httpx2.AsyncClient(verify=context) as client:
            return await client.get(url)

    async def restart(self) -> None:
        """Have another in its place, with fresh roots, that knows nobody."""
        self._process.terminate()
        await self._process.wait()
        await self.start()

    async def start(self) -> None:
        self._process = await self._nursery.start(self._run)
        await self._wait()

    async def _wait(self) -> None:
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    await self._get(self.directory)
                    await self.root()
                except httpx2.HTTPError:
                    await trio.sleep(0.05)
                else:
                    return


def choose_ports() -> Ports:
    return Ports(*(free_port() for _ in range(4)))


def write_txt_hook(folder: Path, ports: Ports) -> Path:
    """Write a program that makes and removes TXT records at pebble's DNS, and return it.

    It keeps what it was called with in `<folder>/calls`.
    """
    program = folder / "dns-hook"
    url = f"http://127.0.0.1:{ports.dns_management}"
    program.write_text(
        f"""#!/bin/sh
set -eu
echo "$*" >> {folder}/calls
case "$1" in
present) curl -sSf -d "{{\\"host\\":\\"$2.\\",\\"value\\":\\"$3\\"}}" {url}/set-txt ;;
cleanup) curl -sSf -d "{{\\"host\\":\\"$2.\\"}}" {url}/clear-txt ;;
esac
"""
    )
    program.chmod(0o700)
    return program


@asynccontextmanager
async def open_pebble(
    folder: Path,
    *,
    tls_port: int,
    http_port: int = 1,
    bad_nonces: int = 5,
    ports: Ports | None = None,
    blocked: str = "blocked.test",
    mac_keys: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Pebble]:
    """Run pebble -strict and its DNS.

    Args:
        tls_port: where it comes for tls-alpn-01.
        http_port: where it comes for http-01.
        bad_nonces: percent of good nonces that it refuses.
        ports: those of a pebble before, to have another in its place.
        mac_keys: of the accounts that clients must name, by their ids; None: they needn't.
        blocked: a domain for which it issues nothing.
    """
    need("pebble", shutil.which("pebble"), "it comes from Debian")
    ports = ports or choose_ports()
    ca_file = folder / "pebble-ca.pem"
    if not ca_file.exists():
        ca = trustme.CA()
        pair = ca.issue_cert("localhost", "127.0.0.1")
        ca.cert_pem.write_to_path(ca_file)
        pair.cert_chain_pems[0].write_to_path(folder / "pebble.pem")
        pair.private_key_pem.write_to_path(folder / "pebble-key.pem")
    config = {
        "pebble": {
            "listenAddress": f"127.0.0.1:{ports.acme}",
            "managementListenAddress": f"127.0.0.1:{ports.management}",
            "certificate": str(folder / "pebble.pem"),
            "privateKey": str(folder / "pebble-key.pem"),
            "httpPort": http_port,
            "tlsPort": tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": mac_keys is not None,
            "externalAccountMACKeys": dict(mac_keys or {}),
            "domainBlocklist": [blocked],
            "retryAfter": {"authz": 1, "order": 1},
        }
    }
    file = folder / "pebble.json"
    file.write_text(json.dumps(config))
    env = {
        "PATH": os.environ["PATH"],
        "PEBBLE_VA_NOSLEEP": "1",
        "PEBBLE_AUTHZREUSE": "0",
        "PEBBLE_WFE_NONCEREJECT": str(bad_nonces),
        **(environment or {}),
    }
    dns_server = f"127.0.0.1:{ports.dns}"
    dns = ["pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]
    dns += ["-dns01", dns_server, "-management", f"127.0.0.1:{ports.dns_management}"]
    dns += ["-http01", "", "-https01", "", "-tlsalpn01", ""]
    pebble = ["pebble", "-config", str(file), "-dnsserver", dns_server, "-strict"]
    with (folder / "pebble.log").open("ab") as log:
        run = partial(trio.run_process, stdout=log, stderr=subprocess.STDOUT, env=env, check=False)
        async with trio.open_nursery() as nursery:
            await nursery.start(run, dns)
            running = Pebble(ports, ca_file, nursery, partial(run, pebble))
            await running.start()
            try:
                yield running
            finally:
                nursery.cancel_scope.cancel()
