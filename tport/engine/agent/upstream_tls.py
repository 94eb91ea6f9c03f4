"""TLS to one application: by what it is known, what it is shown, and in plain words why it fails.

A handshake that fails is never tried again with less verification (AG-09).
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from tport.engine.errors import ConfigError, ConnectionProblem
from tport.engine.pki.contexts import https_context
from tport.engine.pki.keys import KeyPair
from tport.engine.types.app import App

MAX_PEM: Final = 1024 * 1024  # bytes; the system's whole list of authorities is 220 KiB

_TRUST = (
    "name its authority in tls.ca_file; only for an application on the agent's own machine is"
    " insecure_skip_verify no harm"
)
# X509_V_ERR_…, openssl/x509_vfy.h → what it means; what to do. Python names none of them.
_VERIFICATION: Final = {
    9: "its certificate is not valid yet; compare the clocks of both machines",
    10: "its certificate has expired; renew it",
    18: f"its certificate is self-signed, so that nobody vouches for it; {_TRUST}",
    19: f"its certificate is from an authority that this machine does not trust; {_TRUST}",
    20: f"its certificate is from an authority that this machine does not know, or it leaves out"
    f" the certificates between; {_TRUST}",
    21: f"it shows its certificate without those of its authority; {_TRUST}",
    62: "its certificate is for another name than {name}; call it by its own name in uri, or say"
    " in tls.server_name which one it holds",
    64: "its certificate is for other addresses than {name}; say in tls.server_name which name it"
    " holds",
}

CORRECT_URI: Final = "correct the uri in the agent's configuration"
WRONG_SCHEME: Final = "it speaks TLS; its uri must begin with https://"


def upstream_context(app: App) -> ssl.SSLContext:
    """Return the context for an application at an `https://` URI. Reads files.

    Raises:
        ConfigError: a file can't be read or used; the message names it.
    """
    tls = app.tls
    pair = None
    if tls.client_cert:
        pair = KeyPair(chain=_read(tls.client_cert), key=_read(tls.client_key))
    authorities = (_read(tls.ca_file),) if tls.ca_file else ()
    try:
        return https_context(authorities=authorities, insecure=app.insecure_skip_verify, pair=pair)
    except ConfigError as problem:
        files = ", ".join(f for f in (tls.ca_file, tls.client_cert, tls.client_key) if f)
        raise ConfigError(str(problem), where=files, hint=problem.hint) from None


def in_plain_words(problem: ConnectionProblem, name: str) -> ConnectionProblem:
    """Return `problem` with what its cause means for who runs the application.

    Args:
        name: by which the application was called.
    """
    cause = problem.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        meaning = _VERIFICATION.get(cause.verify_code)
        if meaning is not None:
            what, _, hint = meaning.format(name=name).partition("; ")
            return ConnectionProblem(what, hint=hint)
    if isinstance(cause, ssl.SSLError) and "WRONG_VERSION_NUMBER" in (cause.reason or ""):
        return ConnectionProblem(
            "it does not speak TLS; its uri must begin with http://", hint=CORRECT_URI
        )
    return problem


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_PEM + 1)
        if len(data) > MAX_PEM:
            raise ConfigError(f"is larger than {MAX_PEM // 1024} KiB", where=path)
        return data.decode("ascii", "replace")  # what stands around the blocks is anybody's text
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror}", where=path) from None
