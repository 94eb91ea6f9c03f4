"""Each way to put a proxy before the application, started on loopback with what it needs.

The peers are set up as their documentation advises for speed: kept connections to the upstream, one
worker, no log. The two with a tunnel check every request at a sub-request, as tport does by itself.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

from bench.cpu import tree
from bench.parts import NGINX_USER, program
from tests.e2e.harness import Background, Tport, free_port, start_cluster, wait_for_port

HOST: Final = "bench.tport.localhost"
COOKIE: Final = "session=4f1f0a52b7c94c0f9d6b2f4bba5d7a66"


@dataclass(frozen=True)
class Stack:
    """One that runs. `headers`: what its visitors send, to be let through."""

    name: str
    host: str
    port: int
    headers: tuple[str, ...]
    roots: tuple[Background, ...]

    def pids(self) -> set[int]:
        return tree(process.pid for process in self.roots)


Opener = Callable[[Tport, int], AbstractContextManager[Stack]]


@contextmanager
def open_tport(home: Tport, upstream: int) -> Iterator[Stack]:
    """Auth and proxy in one process, an agent in another; a session, roles, the log: all as installed."""
    folder = home.folder / "tport"
    folder.mkdir()
    with start_cluster(folder) as cluster:
        agent = cluster.start_agent("bench", f"http://127.0.0.1:{upstream}")
        cluster.wait_for_app("bench", agent)
        visitor = cluster.signed_in("ann")
        url = cluster.app_url("bench", "/page")
        assert visitor.open(url).status == 200
        cookie = visitor.cookie_header(url)
        yield Stack("tport", HOST, cluster.port, (f"Cookie: {cookie}",), (cluster.proxy, agent))


_NGINX: Final = """\
{user}worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log crit;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 10000000;
  keepalive_timeout 300s;
  client_max_body_size 0;
  proxy_max_temp_file_size 0;
  proxy_request_buffering off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  upstream app {{ server 127.0.0.1:{to}; keepalive 1024; keepalive_requests 10000000; }}
  upstream check {{ server 127.0.0.1:{check}; keepalive 1024; keepalive_requests 10000000; }}
  map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
  server {{
    listen 127.0.0.1:{port} ssl backlog=8192;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    ssl_session_cache shared:bench:8m;
    location / {{
      {access}
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Host $host;
    }}
    location = /check {{
      internal;
      proxy_pass http://check;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
    }}
  }}
  server {{
    listen 127.0.0.1:{check};
    location / {{ if ($http_cookie !~ "{cookie}") {{ return 401; }} return 204; }}
  }}
}}
"""


def _nginx(home: Tport, name: str, to: int, *, access: str) -> tuple[int, Background]:
    folder = home.folder / name
    folder.mkdir()
    cert, key = certificate(home)
    port = free_port()
    conf = folder / "nginx.conf"
    conf.write_text(
        _NGINX.format(
            user=NGINX_USER, folder=folder, to=to, check=free_port(), port=port, cert=cert, key=key,
            access=access, cookie=COOKIE,
        )
    )  # fmt: skip
    process = home.spawn([program("nginx"), "-c", str(conf)])
    wait_for_port(port, process)
    return port, process


@contextmanager
def open_nginx(home: Tport, upstream: int) -> Iterator[Stack]:
    """One hop, no access check: the least that a proxy can cost."""
    port, process = _nginx(home, "nginx", upstream, access="")
    yield Stack("nginx", HOST, port, (f"Cookie: {COOKIE}",), (process,))


@contextmanager
def open_nginx_ssh(home: Tport, upstream: int) -> Iterator[Stack]:
    """Ask at each request by nginx, and send it through a tunnel that `ssh -R` dialled out."""
    folder = home.folder / "ssh"
    folder.mkdir(mode=0o700)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # else sshd, started by root, does not start
    for name in ("host", "user"):
        _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)])
    keys = folder / "authorized"
    keys.write_text((folder / "user.pub").read_text())
    ssh_port, tunnel_port = free_port(), free_port()
    sshd = home.spawn(
        [program("sshd"), "-D", "-e", "-f", "/dev/null", f"-p{ssh_port}", f"-h{folder / 'host'}",
         f"-oAuthorizedKeysFile={keys}", "-oListenAddress=127.0.0.1", "-oUsePAM=no",
         "-oStrictModes=no", "-oPidFile=none", "-oPasswordAuthentication=no",
         "-oMaxSessions=100"]
    )  # fmt: skip
    wait_for_port(ssh_port, sshd)
    ssh = home.spawn(
        [program("ssh"), "-N", "-F/dev/null", f"-i{folder / 'user'}", f"-p{ssh_port}",
         "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oBatchMode=yes",
         "-oExitOnForwardFailure=yes", f"-R127.0.0.1:{tunnel_port}:127.0.0.1:{upstream}",
         "127.0.0.1"]
    )  # fmt: skip
    wait_for_port(tunnel_port, ssh)
    port, nginx = _nginx(home, "nginx-ssh", tunnel_port, access="auth_request /check;")
    yield Stack("nginx + ssh -R", HOST, port, (f"Cookie: {COOKIE}",), (nginx, sshd, ssh))


_HAPROXY: Final = """\
global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout tunnel 300s
  option http-keep-alive
  http-reuse always
frontend front
  bind 127.0.0.1:{port} ssl crt {pem}
  default_backend app
backend app
  server app 127.0.0.1:{to}
"""


@contextmanager
def open_haproxy(home: Tport, upstream: int) -> Iterator[Stack]:
    """One hop, no access check."""
    cert, key = certificate(home)
    folder = home.folder / "haproxy"
    folder.mkdir()
    pem = folder / "both.pem"
    pem.write_text(home.folder.joinpath(cert).read_text() + home.folder.joinpath(key).read_text())
    port = free_port()
    conf = folder / "haproxy.cfg"
    conf.write_text(_HAPROXY.format(port=port, pem=pem, to=upstream))
    process = home.spawn([program("haproxy"), "-db", "-f", str(conf)])
    wait_for_port(port, process)
    yield Stack("haproxy", HOST, port, (f"Cookie: {COOKIE}",), (process,))


_CADDY: Final = """\
{{
  admin off
  auto_https off
  persist_config off
}}
https://{host}:{port} {{
  bind 127.0.0.1
  tls {cert} {key}
  reverse_proxy 127.0.0.1:{to} {{
    transport http {{
      keepalive_idle_conns_per_host 1024
    }}
  }}
}}
"""


@contextmanager
def open_caddy(home: Tport, upstream: int) -> Iterator[Stack]:
    """One hop, no access check."""
    cert, key = certificate(home)
    folder = home.folder / "caddy"
    folder.mkdir()
    port = free_port()
    conf = folder / "Caddyfile"
    conf.write_text(_CADDY.format(host=HOST, port=port, cert=cert, key=key, to=upstream))
    process = home.spawn([program("caddy"), "run", "--config", str(conf), "--adapter=caddyfile"])
    wait_for_port(port, process)
    yield Stack("Caddy", HOST, port, (f"Cookie: {COOKIE}",), (process,))


@contextmanager
def open_mitmproxy(home: Tport, upstream: int) -> Iterator[Stack]:
    """One hop in Python, no access check."""
    cert, key = certificate(home)
    folder = home.folder / "mitmproxy"
    folder.mkdir()
    pem = folder / "both.pem"
    pem.write_text(home.folder.joinpath(key).read_text() + home.folder.joinpath(cert).read_text())
    port = free_port()
    process = home.spawn(
        [program("mitmdump"), "-q", "--mode", f"reverse:http://127.0.0.1:{upstream}",
         "--listen-host=127.0.0.1", f"--listen-port={port}", f"--set=confdir={folder}",
         f"--certs=*={pem}", "--set=keep_host_header=true", "--set=flow_detail=0"]
    )  # fmt: skip
    wait_for_port(port, process)
    yield Stack("mitmproxy", HOST, port, (f"Cookie: {COOKIE}",), (process,))


STACKS: Final[Mapping[str, Opener]] = {
    "tport": open_tport,
    "nginx + ssh -R": open_nginx_ssh,
    "Caddy": open_caddy,
    "mitmproxy": open_mitmproxy,
    "nginx": open_nginx,
    "haproxy": open_haproxy,
}


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
