"""The debug app, `dumper`: shows the request it received, JWT included. An ASGI application.

It runs inside the agent, behind the same checks as any application, and exists to be looked at:
what does an application get to see?
"""

from __future__ import annotations

from html import escape
from typing import Final

from tport.engine.net.asgi import Receive, Scope, Send
from tport.engine.types.app import DEBUG_APP, App

# Its URI is never dialled; it is what the JWT is made out to. The same for every agent, since
# the definition of one application must agree.
DEFINITION: Final = App(
    name=DEBUG_APP,
    uri="http://localhost/",
    description="Shows the request it receives, live token included",
)

_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>dumper</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.4rem; margin-bottom: .2rem }}
table {{ border-collapse: collapse; width: 100%; margin-top: 1rem }}
th, td {{ text-align: left; vertical-align: top; padding: .4rem .6rem .4rem 0;
  border-bottom: 1px solid #8885 }}
th {{ white-space: nowrap; font-weight: 600 }}
td {{ font-family: ui-monospace, monospace; font-size: .9rem; overflow-wrap: anywhere }}
p.note {{ opacity: .75 }}
@media (max-width: 40rem) {{
  th, td {{ display: block; border: 0; padding: 0 }}
  th {{ padding-top: .6rem }}
  td {{ padding-bottom: .6rem; border-bottom: 1px solid #8885 }}
}}
</style>
<h1>It works: your request reached the agent</h1>
<p class="note">This is the debug app. It shows what an application gets to see; the token in
<code>teleport-jwt-assertion</code> is live: don't pass it on.</p>
<p><code>{line}</code></p>
<table>{rows}</table>
"""


async def debug_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the request: as a page, or as text for those who don't ask for HTML."""
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    query = scope["query_string"].decode("latin-1")
    target = scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
    line = f"{scope['method']} {target} HTTP/{scope['http_version']}"
    headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"]]
    if any(name == "accept" and "text/html" in value for name, value in headers):
        rows = "".join(f"<tr><th>{escape(n)}<td>{escape(v)}" for n, v in headers)
        body, kind = _PAGE.format(line=escape(line), rows=rows), b"text/html; charset=utf-8"
    else:
        lines = [line, *(f"{name}: {value}" for name, value in headers)]
        body, kind = (
            "\n".join((*lines, "", f"({size} bytes of body)", "")),
            b"text/plain; charset=utf-8",
        )
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", kind),
                (b"cache-control", b"no-store"),
                (b"x-content-type-options", b"nosniff"),
                (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body.encode()})
