"""What users would pick instead of tport, started on loopback.

The peers are set up as their documentation advises for speed: kept connections to the upstream, one
worker, TLS by P-256 as tport's. Each writes its log of requests to a file, as tport does. The one
with a tunnel checks every request at a sub-request, as tport does by itself.

Connections to the upstream that rest are closed after some seconds: a thousand of them, left by the
row before, make ssh three times as slow at bulk, as it looks at each for each packet.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trustme

from bench.door import Door
from bench.parts import NGINX_USER, program
from bench.stack import DELAY, HOST, Stack
from bench.upstream import Upstream
from tests.e2e.harness import Background, Tport, wait_for_port
from tests.ports import free_port

COOKIE: Final = "session=4f1f0a52b7c94c0f9d6b2f4bba5d7a66"
_OURS: Final = "~ ^/(ws|upload)$"  # paths of the bench's own application

# TLS as Debian's own nginx.conf has it: left to itself nginx 1.22 speaks 1.2 alone, which resumes a session
# without exchanging keys, and would be measured against 1.3 everywhere else.
_NGINX: Final = """\
{user}worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log crit;
events {{ worker_connections 8192; }}
http {{
  access_log {folder}/access.log combined buffer=64k flush=1s;
  keepalive_requests 10000000;
  keepalive_timeout 300s;
  client_max_body_size 0;
  proxy_max_temp_file_size 0;
  proxy_request_buffering off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  upstream pages {{
    server 127.0.0.1:{pages}; keepalive 1024; keepalive_requests 10000000; keepalive_timeout 3s;
  }}
  upstream origin {{
    server 127.0.0.1:{origin}; keepalive 1024; keepalive_requests 10000000; keepalive_timeout 3s;
  }}
  upstream check {{ server 127.0.0.1:{check}; keepalive 1024; keepalive_requests 10000000; }}
  map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
  server {{
    listen 127.0.0.1:{port} ssl backlog=8192;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    ssl_session_cache shared:bench:8m;
    proxy_http_version 1.1;
    proxy_set_header Connection $connection_upgrade;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Host $host;
    {access}
    location / {{ proxy_pass http://pages; }}
    location {ours} {{ proxy_pass http://origin; }}
    location = /check {{
      internal;
      auth_request off;
      proxy_pass http://check;
      proxy_set_header Connection "";
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
    }}
  }}
  server {{
    listen 127.0.0.1:{check};
    access_log off;
    location / {{ if ($http_cookie !~ "{cookie}") {{ return 401; }} return 204; }}
  }}
}}
"""


def _nginx(home: Tport, name: str, to: Upstream, *, access: str) -> tuple[int, Background]:
    folder = home.folder / name
    folder.mkdir()
    cert, key = certificate(home)
    port = free_port()
    conf = folder / "nginx.conf"
    conf.write_text(
        _NGINX.format(
            user=NGINX_USER, folder=folder, pages=to.pages, origin=to.origin, check=free_port(),
            port=port, cert=cert, key=key, access=access, cookie=COOKIE, ours=_OURS,
        )
    )  # fmt: skip
    process = home.spawn([program("nginx"), "-c", str(conf)])
    wait_for_port(port, process)
    return port, process


@contextmanager
def open_nginx(home: Tport, upstream: Upstream) -> Iterator[Stack]:
    """One hop, no access check: the least that a proxy can cost."""
    port, process = _nginx(home, "nginx", upstream, access="")
    yield _stack("nginx", port, process)


@contextmanager
def open_nginx_ssh(home: Tport, upstream: Upstream) -> Iterator[Stack]:
    """Ask at each request by nginx, and send it through a tunnel that `ssh -R` dialled out."""
    yield _nginx_ssh(home, upstream, "nginx + ssh -R", delay=0)


@contextmanager
def open_nginx_ssh_far(home: Tport, upstream: Upstream) -> Iterator[Stack]:
    """The same, ssh and sshd 50 ms apart."""
    yield _nginx_ssh(home, upstream, "nginx + ssh -R, far", delay=DELAY)


def _nginx_ssh(home: Tport, upstream: Upstream, name: str, *, delay: float) -> Stack:
    folder = home.folder / name.replace(" ", "")
    folder.mkdir(mode=0o700)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # else sshd, started by root, does not start
    for who in ("host", "user"):
        _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / who)])
    keys = folder / "authorized"
    keys.write_text((folder / "user.pub").read_text())
    ssh_port, pages, origin = free_port(), free_port(), free_port()
    sshd = home.spawn(
        [program("sshd"), "-D", "-e", "-f", "/dev/null", f"-p{ssh_port}", f"-h{folder / 'host'}",
         f"-oAuthorizedKeysFile={keys}", "-oListenAddress=127.0.0.1", "-oUsePAM=no",
         "-oStrictModes=no", "-oPidFile=none", "-oPasswordAuthentication=no",
         "-oMaxSessions=100"]
    )  # fmt: skip
    wait_for_port(ssh_port, sshd)
    dialled = relayed(home, ssh_port, delay) if delay else ssh_port
    ssh = home.spawn(
        [program("ssh"), "-N", "-F/dev/null", f"-i{folder / 'user'}", f"-p{dialled}",
         "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oBatchMode=yes",
         "-oExitOnForwardFailure=yes", f"-R127.0.0.1:{pages}:127.0.0.1:{upstream.pages}",
         f"-R127.0.0.1:{origin}:127.0.0.1:{upstream.origin}", "127.0.0.1"]
    )  # fmt: skip
    for port in (pages, origin):
        wait_for_port(port, ssh)
    here = Upstream(pages, origin)
    port, nginx = _nginx(home, f"nginx-{folder.name}", here, access="auth_request /check;")
    return _stack(name, port, nginx, sshd, ssh)


_HAPROXY: Final = """\
global
  nbthread 1
  maxconn 4000
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout tunnel 300s
  option http-keep-alive
  http-reuse always
frontend front
  bind 127.0.0.1:{port} ssl crt {pem}
  use_backend origin if {{ path /ws /upload }}
  default_backend pages
backend pages
  server pages 127.0.0.1:{pages}
backend origin
  server origin 127.0.0.1:{origin}
"""


@contextmanager
def open_haproxy(home: Tport, upstream: Upstream) -> Iterator[Stack]:
    """One hop, no access check."""
    cert, key = certificate(home)
    folder = home.folder / "haproxy"
    folder.mkdir()
    pem = folder / "both.pem"
    pem.write_text(Path(cert).read_text() + Path(key).read_text())
    port = free_port()
    conf = folder / "haproxy.cfg"
    conf.write_text(
        _HAPROXY.format(port=port, pem=pem, pages=upstream.pages, origin=upstream.origin)
    )
    process = home.spawn([program("haproxy"), "-db", "-f", str(conf)])
    wait_for_port(port, process)
    yield _stack("haproxy", port, process)


_CADDY: Final = """\
{{
  admin off
  auto_https off
  persist_config off
}}
https://{host}:{port} {{
  bind 127.0.0.1
  tls {cert} {key}
  {log}
  @ours path /ws /upload
  reverse_proxy @ours 127.0.0.1:{origin}
  reverse_proxy 127.0.0.1:{pages} {{
    transport http {{
      keepalive_idle_conns_per_host 1024
    }}
  }}
}}
"""


@contextmanager
def open_caddy(home: Tport, upstream: Upstream) -> Iterator[Stack]:
    """One hop, no access check."""
    yield _caddy(home, upstream, "Caddy", "log {{\n    output file {folder}/access.log\n  }}")


@contextmanager
def open_caddy_quiet(home: Tport, upstream: Upstream) -> Iterator[Stack]:
    """The same as it comes, without a log of requests."""
    yield _caddy(home, upstream, "Caddy, no log", "")


def _caddy(home: Tport, upstream: Upstream, name: str, log: str) -> Stack:
    cert, key = certificate(home)
    folder = home.folder / name.replace(" ", "")
    folder.mkdir()
    port = free_port()
    conf = folder / "Caddyfile"
    conf.write_text(
        _CADDY.format(
            host=HOST, port=port, cert=cert, key=key, pages=upstream.pages, origin=upstream.origin,
            log=log.format(folder=folder),
        )
    )  # fmt: skip
    process = home.spawn([program("caddy"), "run", "--config", str(conf), "--adapter=caddyfile"])
    wait_for_port(port, process)
    return _stack(name, port, process)


@contextmanager
def open_mitmproxy(home: Tport, upstream: Upstream) -> Iterator[Stack]:
    """One hop in Python, no access check; it prints each request."""
    cert, key = certificate(home)
    folder = home.folder / "mitmproxy"
    folder.mkdir()
    pem = folder / "both.pem"
    pem.write_text(Path(key).read_text() + Path(cert).read_text())
    port, origin = free_port(), free_port()
    process = home.spawn(
        [program("mitmdump"), "--mode", f"reverse:http://127.0.0.1:{upstream.pages}@{port}",
         "--mode", f"reverse:http://127.0.0.1:{upstream.origin}@{origin}",
         "--listen-host=127.0.0.1", f"--set=confdir={folder}",
         f"--certs=*={pem}", "--set=keep_host_header=true"]
    )  # fmt: skip
    wait_for_port(port, process)
    headers = (f"Cookie: {COOKIE}",)
    yield Stack(
        "mitmproxy", Door(HOST, port, headers), Door(HOST, origin, headers), (process,), (COOKIE,)
    )


@contextmanager
def open_application(home: Tport, upstream: Upstream) -> Iterator[Stack]:
    """Nothing: the application itself, in the clear."""
    yield _bare("application", upstream)


@contextmanager
def open_copy_far(home: Tport, upstream: Upstream) -> Iterator[Stack]:
    """Plain TCP to the application, 50 ms away."""
    ports = (relayed(home, port, DELAY) for port in (upstream.pages, upstream.origin))
    yield _bare("TCP copy, far", Upstream(*ports))


def _bare(name: str, upstream: Upstream) -> Stack:
    pages, origin = (
        Door(HOST, port, (f"Cookie: {COOKIE}",), scheme="http")
        for port in (upstream.pages, upstream.origin)
    )
    return Stack(name, pages, origin, (), (COOKIE,))


def relayed(home: Tport, port: int, delay: float) -> int:
    """Start a relay to a port; return its own port. `delay`: ms, each way."""
    argv = [sys.executable, "-m", "bench.relay", str(port), str(delay)]
    process = home.spawn(argv, cwd=Path(__file__).parents[1])
    process.wait_for("\n")
    return int(process.stdout)


def _stack(name: str, port: int, *roots: Background) -> Stack:
    door = Door(HOST, port, (f"Cookie: {COOKIE}",))
    return Stack(name, door, door, roots, (COOKIE,))


def certificate(home: Tport) -> tuple[str, str]:
    """Return the paths of the peers' certificate (P-256, as tport's own) and its key."""
    cert, key = home.folder / "peers.pem", home.folder / "peers-key.pem"
    if not cert.exists():
        made = trustme.CA().issue_cert(HOST)
        cert.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
        key.write_bytes(made.private_key_pem.bytes())
    return str(cert), str(key)


def _run(argv: Sequence[str]) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=30)
