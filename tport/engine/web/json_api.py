"""What signed-in people may ask of auth, as JSON, and its description: for scripts in pages and programs.

    POST /v1/<call>           arguments as a JSON object; the answer as JSON
    GET  /v1/openapi.json     every call with its schemas, OpenAPI 3.1

Nothing is written down twice: calls, arguments and answers are AuthAPI's, and who may make which is
its table of rules, judged by auth. A request of another origin's page is none: it can send no JSON
here without asking first, and is not answered when it asks.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import lru_cache
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tport import __version__
from tport.engine.api import wire
from tport.engine.api.protocol import RULES, AuthAPI
from tport.engine.defaults import MAX_CALL
from tport.engine.errors import (
    AccessDenied,
    ConnectionProblem,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    NotSignedIn,
    RemoteProtocolError,
    TportError,
    Unavailable,
)
from tport.engine.web.respond import answer
from tport.engine.web.site import Site

PREFIX: Final = wire.PREFIX
DESCRIPTION: Final = f"{PREFIX}openapi.json"
_JSON: Final = "application/json"
_PASSING: Final = (ConnectionProblem, RemoteProtocolError)  # between this proxy and auth

# What a call may answer beside 200.
_FAILURES: Final[Mapping[int, str]] = {
    400: "The arguments can't be meant.",
    401: "Nobody is signed in.",
    403: "The person's roles don't allow it, or the request is another origin's.",
    404: "There is no such thing, or no such call.",
    409: "It exists already, or was changed meanwhile.",
    413: "The body is too large.",
    415: "The body is no JSON.",
    429: "Too often; Retry-After says when.",
    503: "The auth service can't answer now.",
}


class JsonApi:
    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        return [
            Route(DESCRIPTION, self.describe, methods=["GET"]),
            Route(f"{PREFIX}{{call}}", self.call, methods=["POST"]),
        ]

    async def describe(self, _request: Request) -> Response:
        """GET /v1/openapi.json"""
        described = _described(self._site.web_cookie)
        return answer(described, _JSON, headers=(("cache-control", "max-age=300"),))

    async def call(self, request: Request) -> Response:
        """POST /v1/{call}"""
        try:
            return answer(await self._called(request), _JSON)
        except _PASSING:
            return _refused(Unavailable("the auth service can't be reached; try again"))
        except TportError as error:
            return _refused(error)

    async def _called(self, request: Request) -> bytes:
        name = str(request.path_params["call"])
        if not self._site.is_own_post(request):
            raise AccessDenied("this request is another origin's page's")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
            raise _NoJson("send application/json")
        if name not in RULES:
            raise NotFound("there is no such call", hint=f"{DESCRIPTION} has them all")
        if await self._site.session(request) is None:
            raise NotSignedIn("you are not signed in, or your session is over")
        arguments = wire.decode_request(name, await _body(request.stream()))
        return wire.encode_answer(await getattr(self._site.acting(request), name)(**arguments))


class _NoJson(InvalidRequest):
    status = 415


class _TooLarge(InvalidRequest):
    status = 413


async def _body(chunks: AsyncGenerator[bytes, None]) -> bytes:
    body = bytearray()
    async with aclosing(chunks):
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_CALL:
                raise _TooLarge(f"the request is over {MAX_CALL} bytes")
    return bytes(body)


def _refused(error: TportError) -> Response:
    """Write an error as every failure is written in JSON."""
    kind = next(base for base in type(error).__mro__ if not base.__name__.startswith("_"))
    word = "".join(f"-{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("-")
    told = {
        "error": word,
        "message": str(error),
        "hop": "proxy",
        "cause": str(error),
        "hint": error.hint,
    }
    headers = []
    if isinstance(error, LimitExceeded):
        headers.append(("retry-after", f"{max(1, error.retry_after):.0f}"))
    if isinstance(error, NotSignedIn):
        headers.append(("www-authenticate", 'Bearer realm="tport"'))
    status = error.status if error.status in _FAILURES else 503
    return answer(msgspec.json.encode(told), _JSON, status, headers=headers)


# --- The description ---------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _described(cookie: str) -> bytes:
    return msgspec.json.encode(openapi(cookie))


def openapi(cookie: str) -> Mapping[str, Any]:
    """Return the OpenAPI 3.1 description of every call that people may make.

    `cookie`: the name of the one that holds a session.
    """
    calls = [wire.CALLS[name] for name in sorted(RULES)]
    schemas, components = msgspec.json.schema_components(
        [*(call.request for call in calls), *(call.answer for call in calls)],
        ref_template="#/components/schemas/{name}",
    )
    schemas, components = _without_tuples(schemas), _without_tuples(components)
    asked, answered = schemas[: len(calls)], schemas[len(calls) :]
    failures = {
        str(status): {"description": words, "content": {_JSON: {"schema": _FAILURE}}}
        for status, words in _FAILURES.items()
    }
    paths = {
        f"{PREFIX}{call.name}": {
            "post": {
                "operationId": call.name,
                "summary": _summary(call.name),
                "description": _rule(call.name),
                "requestBody": {"required": True, "content": {_JSON: {"schema": request}}},
                "responses": {
                    "200": {"description": "Done.", "content": {_JSON: {"schema": response}}},
                    **failures,
                },
            }
        }
        for call, request, response in zip(calls, asked, answered, strict=True)
    }
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {"title": "tport", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": {**components, "Failure": _FAILURE_SCHEMA},
            "securitySchemes": {
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": cookie,
                    "description": "The cookie of who has signed in at this proxy.",
                }
            },
        },
        "security": [{"session": []}],
    }


_ABOUT: Final = (
    "What people who are signed in may ask, by the rules of their roles. Times are RFC 3339. A page of"
    " another origin can't use it."
)
_FAILURE: Final = {"$ref": "#/components/schemas/Failure"}
_FAILURE_SCHEMA: Final = {
    "type": "object",
    "required": ["error", "message", "hop", "cause"],
    "properties": {
        "error": {"type": "string", "description": "a stable word"},
        "message": {"type": "string", "description": "for people"},
        "hop": {"type": "string"},
        "cause": {"type": "string"},
        "hint": {"type": "string", "description": "what to do next"},
    },
}


def _without_tuples(schema: Any) -> Any:
    """Say of fixed lists of one type that they are lists of so many: many a reader knows no more."""
    if isinstance(schema, dict):
        parts = schema.get("prefixItems")
        plain = {key: _without_tuples(value) for key, value in schema.items()}
        if isinstance(parts, list) and parts and all(part == parts[0] for part in parts):
            del plain["prefixItems"]
            plain["items"] = _without_tuples(parts[0])
        return plain
    if isinstance(schema, list | tuple):
        return [_without_tuples(value) for value in schema]
    return schema


def _summary(name: str) -> str:
    """Return the first sentence of a call's documentation, or its name in words."""
    text = inspect.getdoc(getattr(AuthAPI, name)) or ""
    first = text.split("\n\n")[0].replace("\n", " ").strip()
    return first or f"{name.replace('_', ' ').capitalize()}."


def _rule(name: str) -> str:
    rule = RULES[name]
    if rule is None:
        return "For everybody, about themselves."
    return f"For roles whose rules allow `{rule[1]}` on `{rule[0]}`."
