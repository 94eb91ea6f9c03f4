"""What machines and browsers ask of the proxy's host without a session."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tport import __version__
from tport.engine.errors import ConnectionProblem, RemoteProtocolError, Unavailable
from tport.engine.web.assets import ASSETS, ICON
from tport.engine.web.respond import answer, send_page
from tport.engine.web.site import Site, for_people

JWKS_AGE: Final = 300  # seconds; a new key is in use only after this long in the list


class PublicFiles:
    """What needs no session: for agents, load balancers, applications that check JWTs."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def ping(self, _request: Request) -> Response:
        """GET /webapi/ping: whose proxy this is, and how one signs in; Teleport's keys beside ours."""
        try:
            policy = await self._site.auth.factor_policy()
        except (Unavailable, ConnectionProblem, RemoteProtocolError):
            return _json(self._found())  # that the proxy answers is what most ask for
        auth: dict[str, object] = {"type": "local", "second_factor": policy.word}
        if "webauthn" in policy.kinds:
            host, _, _ = self._site.public_addr.partition(":")
            auth["webauthn"] = {"rp_id": host}
        return _json({**self._found(), "auth": auth})

    async def find(self, _request: Request) -> Response:
        """GET /webapi/find: the part of it that agents ask for; auth isn't asked."""
        return _json(self._found())

    def _found(self) -> dict[str, object]:
        return {
            "cluster": self._site.cluster,
            "cluster_name": self._site.cluster,
            "version": __version__,
            "server_version": __version__,
            "min_client_version": __version__,
            "public_addr": self._site.public_addr,
            "proxy": {
                "tls_routing_enabled": True,
                "ssh": {"public_addr": self._site.public_addr},
            },
        }

    async def authorities(self, _request: Request) -> Response:
        """GET /webapi/cas: the certificates over which a join token's pin is made."""
        found = await self._site.auth.authorities()
        return _json({"cluster": found.cluster, "host": found.host, "web": found.web})

    async def jwks(self, request: Request) -> Response:
        """GET /.well-known/jwks.json: the keys that prove who is calling, to applications."""
        body = msgspec.json.encode((await self._site.auth.authorities()).jwks)
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = (("cache-control", f"public, max-age={JWKS_AGE}"), ("etag", tag))
        known = request.headers.get("if-none-match", "")
        if tag in (each.strip().removeprefix("W/") for each in known.split(",")):
            return answer(b"", "application/json", 304, headers=headers)
        return answer(body, "application/json", headers=headers)

    async def healthz(self, _request: Request) -> Response:
        return _json({"status": "ok"})

    async def robots(self, _request: Request) -> Response:
        return answer(b"User-agent: *\nDisallow: /\n", "text/plain; charset=utf-8")

    async def static(self, request: Request) -> Response:
        asset = ASSETS.get(request.scope["path"])
        if asset is None:
            return send_page(self._site.errors.not_found(html=for_people(request)))
        headers = [
            ("cache-control", "public, max-age=31536000, immutable"),
            ("vary", "accept-encoding"),
        ]
        if not _takes_gzip(request.headers.get("accept-encoding", "")):
            return answer(asset.body, asset.media_type, headers=headers)
        headers.append(("content-encoding", "gzip"))  # it is everybody's: nothing to guess in it
        return answer(asset.gzipped, asset.media_type, headers=headers)

    async def favicon(self, _request: Request) -> Response:
        """GET /favicon.ico: for pages that can't name the icon, such as JSON."""
        return answer(ICON.body, ICON.media_type, headers=(("cache-control", "max-age=86400"),))


def _takes_gzip(accepted: str) -> bool:
    for coding in accepted.lower().split(","):
        name, _, weight = coding.replace(" ", "").partition(";")
        if name == "gzip":
            return weight.rstrip("0.") != "q="
    return False


def _json(value: object) -> Response:
    return answer(msgspec.json.encode(value), "application/json")
