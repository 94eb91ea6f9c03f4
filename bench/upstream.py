"""The applications behind every stack: nginx with files of known sizes, and the bench's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.parts import NGINX_USER, program
from tests.e2e.harness import Tport, wait_for_port
from tests.ports import free_port

PAGE: Final = 1024  # bytes of an answer
BIG: Final = 1 << 30  # bytes of /big

# /headers answers with what a stack made of the request: the bench looks that features are on.
_CONF: Final = """\
{user}worker_processes 1;
daemon off;
pid {folder}/upstream.pid;
error_log {folder}/upstream.log crit;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 10000000;
  keepalive_timeout 300s;
  client_body_temp_path {folder}/body;
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    root {folder}/www;
    default_type text/plain;
    location = /headers {{
      return 200 "$http_teleport_jwt_assertion\\n$http_authorization\\n$http_x_user\\n$http_x_groups\\n";
    }}
    location / {{ try_files $uri /page =404; }}
  }}
}}
"""


@dataclass(frozen=True)
class Upstream:
    """Ports of 127.0.0.1. `pages`: nginx; `origin`: `bench.origin`, for WebSockets and uploads."""

    pages: int
    origin: int


@contextmanager
def open_upstream(home: Tport) -> Iterator[Upstream]:
    """Serve until the block ends. Every path of nginx but /big and /headers is the page of 1 KiB."""
    folder = home.folder / "upstream"
    www = folder / "www"
    www.mkdir(parents=True)
    (www / "page").write_bytes(b"x" * PAGE)
    with (www / "big").open("wb") as file:
        file.truncate(BIG)
    port = free_port()
    conf = folder / "upstream.conf"
    conf.write_text(_CONF.format(user=NGINX_USER, folder=folder, port=port))
    process = home.spawn([program("nginx"), "-c", str(conf)])
    wait_for_port(port, process)
    own = home.spawn([sys.executable, "-m", "bench.origin"], cwd=Path(__file__).parents[1])
    own.wait_for("\n")
    yield Upstream(port, int(own.stdout))
