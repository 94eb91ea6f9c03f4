"""The application behind every stack: nginx with files of known sizes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.parts import NGINX_USER, program
from tests.e2e.harness import Tport, free_port, wait_for_port

PAGE: Final = 1024  # bytes of an answer
BIG: Final = 1 << 30  # bytes of a download and of an upload

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
  client_max_body_size 0;
  client_body_temp_path {folder}/body;
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    root {folder}/www;
    default_type text/plain;
    location = /upload {{ proxy_request_buffering off; proxy_pass http://127.0.0.1:{sink}/; }}
    location / {{ try_files $uri /page =404; }}
  }}
  server {{ listen 127.0.0.1:{sink}; location / {{ client_body_buffer_size 64k; return 204; }} }}
}}
"""


@contextmanager
def open_upstream(home: Tport) -> Iterator[int]:
    """Serve until the block ends; gives the port. Every path but /big and /upload is the page of 1 KiB."""
    folder = home.folder / "upstream"
    www = folder / "www"
    www.mkdir(parents=True)
    (www / "page").write_bytes(b"x" * PAGE)
    with (www / "big").open("wb") as file:
        file.truncate(BIG)
    port = free_port()
    conf = folder / "upstream.conf"
    conf.write_text(_CONF.format(user=NGINX_USER, folder=folder, port=port, sink=free_port()))
    process = home.spawn([program("nginx"), "-c", str(conf)])
    wait_for_port(port, process)
    yield port
