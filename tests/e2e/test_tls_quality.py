"""TLS as others judge it: sslyze and testssl.sh by Mozilla's guideline, Chromium by the CA's names."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from tests.certs import Cluster as Authorities
from tests.e2e.browser import open_browser, open_context
from tests.e2e.harness import DOMAIN, Cluster, Tport, need, program
from tport.engine.errors import TportError
from tport.engine.net.tls import accept_tls
from tport.engine.pki.authority import Authority, issue_web_certificate, new_authority
from tport.engine.pki.contexts import auth_server_context, browser_context, tunnel_server_context
from tport.engine.pki.keys import KeyPair, load_private_key, make_key

pytestmark = pytest.mark.e2e

SSLYZE = Path(__file__).parents[2] / ".test" / "sslyze" / "bin" / "sslyze"
# All but what old clients would choose, which takes as long as the rest: half a minute.
CHECKS = ("-p", "-s", "-f", "-P", "-S", "-h", "-U")
# What testssl.sh 3.0 calls worse than LOW, and why it stays so.
AS_DECIDED = {
    "cipher_order": "Mozilla's guideline leaves the order to clients: phones without AES know best",
    "cert_revocation": "the own authority's leaves live for 90 days, and no list names them",
}
# Of its own openssl, which lacks the old algorithms, and of servers without a second ticket.
OF_ITSELF = "WARN"


def sslyze(target: str, name: str, authority: Path, *flags: str) -> str:
    """Judge what answers at host:port by Mozilla's "intermediate"; return the report.

    A server that it could not scan is exit status 0 to sslyze: only the verdict counts.
    """
    need("sslyze", SSLYZE.exists(), "make test-deps")
    trusted, asked = f"--certinfo_ca_file={authority}", f"--sni={name}"
    done = subprocess.run(
        [str(SSLYZE), "--mozilla_config=intermediate", trusted, asked, *flags, target],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    report = done.stdout + done.stderr
    assert done.returncode == 0, report
    assert f"{target}: OK - Compliant." in report, report
    return report


@pytest.fixture(scope="module")
def dumper(cluster: Cluster) -> Cluster:
    """A cluster with the debug app."""
    agent = cluster.start_agent_of("app_service: {enabled: yes, debug_app: true}\n")
    cluster.wait_for_app("dumper", agent)
    return cluster


@pytest.mark.parametrize(("name", "shown"), [(DOMAIN, DOMAIN), (f"dumper.{DOMAIN}", f"*.{DOMAIN}")])
def test_the_public_port_is_what_mozilla_calls_intermediate(
    dumper: Cluster, name: str, shown: str
) -> None:
    """By the proxy's name, and by an application's: of these no certificate tells which there are."""
    report = sslyze(f"127.0.0.1:{dumper.port}", name, dumper.ca())

    assert re.search(rf"SubjAltName - DNS Names: +\['{re.escape(shown)}'\]", report), report
    assert "Supported curves:                  X25519, secp256r1, secp384r1\n" in report
    assert "OK - Compression disabled" in report
    assert "Client Renegotiation DoS Attack:   OK - Not vulnerable" in report


@pytest.mark.parametrize("door", ["auth", "tunnel"])
def test_the_doors_of_our_own_programs_are_intermediate_too(tmp_path: Path, door: str) -> None:
    """By their contexts, since sslyze can't name the protocol without which they hang up.

    What they show here is a web certificate: a host's holds no name, and a critical extension that
    nobody but tport reads.
    """
    known = Authorities()
    authority = tmp_path / "ca.pem"
    authority.write_text(known.web.trusted[0])
    client = known.pair("agent")
    (tmp_path / "chain.pem").write_text(client.chain)
    (tmp_path / "key.pem").write_text(client.key)
    make = auth_server_context if door == "auth" else tunnel_server_context
    context = make(web_pair(known.web, "proxy.test"), known.host.trusted)

    with serving(context) as port:
        report = sslyze(
            f"127.0.0.1:{port}",
            "proxy.test",
            authority,
            f"--cert={tmp_path / 'chain.pem'}",
            f"--key={tmp_path / 'key.pem'}",
        )

    assert "Supported curves:                  X25519, secp256r1, secp384r1\n" in report


@pytest.mark.timeout(300)
def test_testssl_finds_nothing_worse_than_low(cluster: Cluster, tmp_path: Path) -> None:
    """But for what was decided otherwise; and it does find things: that there is no HSTS is LOW."""
    testssl = program("testssl", "testssl.sh")
    need("testssl.sh", testssl, "apt-get install testssl.sh")
    found = tmp_path / "found.json"
    where = ["--ip=127.0.0.1", f"--add-ca={cluster.ca()}", f"--jsonfile={found}"]
    quiet = ["--quiet", "--color=0", "--warnings=off", "--nodns=min", "--fast"]
    subprocess.run(
        [testssl, *quiet, *CHECKS, *where, f"{DOMAIN}:{cluster.port}"],
        capture_output=True,
        timeout=280,
        check=False,
    )

    findings: list[dict[str, Any]] = json.loads(found.read_text())
    by_id = {finding["id"]: finding for finding in findings}
    assert {"TLS1", "LUCKY13", "heartbleed", "cert_expirationStatus"} < by_id.keys()
    assert by_id["HSTS"]["severity"] == "LOW"
    bad = {
        id_: finding
        for id_, finding in by_id.items()
        if finding["severity"] not in {"OK", "INFO", "LOW", OF_ITSELF}
    }
    assert bad.keys() == AS_DECIDED.keys(), bad


# --- Chromium ----------------------------------------------------------------------------------------


def test_whoever_holds_the_cas_key_fools_no_browser_about_other_names(tmp_path: Path) -> None:
    """Chromium trusts the CA for the proxy's names, and warns of any other that it vouches for.

    That proxy and applications show no warning: test_browser.py, in each of its pages.
    """
    ours = new_authority("web", "tport", now=Authorities().now, names=[DOMAIN])
    anything = new_authority("web", "tport", now=Authorities().now, names=["localhost"])
    stolen = msgspec.structs.replace(anything, key=ours.key)
    tport = Tport(tmp_path)
    trust_authority(tport, ours)

    with open_browser(tport.home) as browser, open_context(browser) as (context, _):
        page = context.new_page()
        for name, warned in ((f"grafana.{DOMAIN}", False), ("bank.localhost", True)):
            with serving(browser_context(web_pair(stolen, name))) as port:
                if warned:
                    with pytest.raises(Exception, match="ERR_CERT_"):
                        page.goto(f"https://{name}:{port}/")
                else:
                    assert page.goto(f"https://{name}:{port}/") is not None


def trust_authority(tport: Tport, authority: Authority) -> None:
    """Make the home's Chromium trust an authority that no cluster of the test's has."""
    need("certutil", program("certutil"), "apt-get install libnss3-tools")
    (tport.folder / "ca.pem").write_text(authority.trusted[0])
    database = tport.home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    for words in (
        ["-N", "--empty-password"],
        ["-A", "-t", "C,,", "-n", "ours", "-i", str(tport.folder / "ca.pem")],
    ):
        subprocess.run(["certutil", "-d", f"sql:{database}", *words], check=True)


def web_pair(authority: Authority, name: str) -> KeyPair:
    key = make_key()
    public = load_private_key(key).public_key()
    chain = issue_web_certificate(authority, public, name, now=Authorities().now)
    return KeyPair(key=key, chain=chain)


@contextmanager
def serving(context: ssl.SSLContext) -> Iterator[int]:
    """Shake hands with whoever comes, say "hello" by HTTP, and hang up; yield the port."""
    ports: list[int] = []
    ready, over = threading.Event(), trio.Event()
    token: list[trio.lowlevel.TrioToken] = []

    async def answer(plain: trio.SocketStream) -> None:
        try:
            async with await accept_tls(plain, context, ragged_end=True) as tls:
                await tls.receive_some()
                await tls.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        except (TportError, trio.BrokenResourceError):
            pass  # a scanner's handshakes mostly fail

    async def serve() -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        ports.append(listener.socket.getsockname()[1])
        token.append(trio.lowlevel.current_trio_token())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, answer, [listener])
            ready.set()
            await over.wait()
            nursery.cancel_scope.cancel()

    thread = threading.Thread(target=trio.run, args=(serve,), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield ports[0]
    finally:
        token[0].run_sync_soon(over.set)
        thread.join(10)
