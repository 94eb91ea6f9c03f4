"""What an application may say that auth hands to agents, and which agents pick it up. Pure.

Whoever may write such an application must not thereby run programs on agents' machines, read their
files, or reach where clouds keep credentials (AG-07, AG-14). So auth asks this before it stores
one, and each agent asks it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from tport.engine.access.cors import check_cors
from tport.engine.access.rbac import compile_labels
from tport.engine.access.targets import is_metadata
from tport.engine.config.app_rules import (
    check_label,
    check_origin,
    check_public_addr,
    check_redirect,
    check_server_name,
    check_uri,
    parse_header,
)
from tport.engine.errors import InvalidRequest
from tport.engine.types.app import (
    DEBUG_APP,
    App,
    check_app_name,
    check_group,
    check_required_apps,
)

Matcher = Mapping[str, tuple[str, ...]]
"""`labels` of one entry of `app_service.resources`: keys ANDed, the values of one key ORed."""

NO_COMMANDS = (
    "commands are for an agent's own file: here they would let who writes applications run"
    " programs on agents"
)
NO_METADATA = "is for an agent's own file: no other application reaches clouds' credentials"
NO_FILES = "names a file on an agent's machine, which only that agent's own file may do"


def check_dynamic_app(app: App) -> App:
    """Return `app` when agents may pick it up.

    Raises:
        InvalidRequest: it can't be served, or it isn't to be; beginning with the setting.
    """
    if app.commands:
        raise InvalidRequest(f"spec.dynamic_labels: {NO_COMMANDS}")
    if app.allow_metadata:
        raise InvalidRequest(f"spec.allow_metadata: {NO_METADATA}")
    for name in ("ca_file", "client_cert", "client_key"):
        if getattr(app.tls, name):
            raise InvalidRequest(f"spec.tls.{name}: {NO_FILES}")
    if app.name == DEBUG_APP:
        raise InvalidRequest(f"metadata.name: {DEBUG_APP!r} is the name of the debug app")
    try:
        check_app_name(app.name)
        check_uri(app.uri)
        if app.public_addr and check_public_addr(app.public_addr, ()) != app.public_addr:
            raise InvalidRequest(f"{app.public_addr!r} is not written as browsers do")
        for label, value in app.labels.items():
            check_label(label, value)
        for host in app.rewrite.redirect:
            check_redirect(host)
        for header in app.rewrite.headers:
            parse_header(f"{header.name}: {header.value}")
        if app.tls.server_name:
            check_server_name(app.tls.server_name)
        if app.cors is not None:
            for origin in app.cors.allowed_origins:
                check_origin(origin)
            check_cors(app.cors)
        if app.group:
            check_group(app.group)
        check_required_apps(app.required_apps, of=app.name)
    except InvalidRequest as problem:
        raise InvalidRequest(f"spec: {problem}", hint=problem.hint) from None
    if is_metadata(urlsplit(app.uri).hostname or ""):
        raise InvalidRequest("spec.uri: leads where clouds keep their machines' credentials")
    return app


def check_matcher(labels: Matcher) -> Matcher:
    """Return `labels` when something can match them.

    Raises:
        InvalidRequest: it is empty, a key can't be a label's, or a value is no pattern.
    """
    if not labels:
        raise InvalidRequest("needs labels", hint="all applications: labels: {'*': '*'}")
    compile_labels(labels)
    return labels


def is_wanted(app: App, matchers: Sequence[Matcher]) -> bool:
    """Tell whether one of the matchers fits the application's labels."""
    return any(
        compile_labels(labels).matches(app.labels, {}, if_failed=False) for labels in matchers
    )
