"""The questions of `tport configure --interactive`: four, and only those that no flag has answered."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import typer
from msgspec.structs import replace

from tport.commands.printing import say
from tport.engine.config.address import Address, parse_public_address
from tport.engine.config.app_rules import check_uri
from tport.engine.config.known_apps import known_apps
from tport.engine.config.sample import SampleFlags
from tport.engine.config.words import check_email
from tport.engine.defaults import WEB_PORT
from tport.engine.errors import ConfigError, TportError
from tport.engine.types.app import check_app_name

T = TypeVar("T")

_ACME, _FILES, _OWN = "1", "2", "3"
_WAYS: Final = """\
Browsers want a certificate for this name, and for each application's:
  1  from Let's Encrypt, free and by itself; port 443 must be open to the Internet
  2  you have files, as certbot makes them
  3  tport's own authority makes them; each browser must be told to trust it"""


def ask_for_rest(flags: SampleFlags, *, check_pair: Callable[[str, str, str], None]) -> SampleFlags:
    """Return the flags with answers beside them.

    Args:
        check_pair: raises ConfigError unless a certificate's file and its key's belong together.

    Raises:
        ConfigError: the questions are about a server, and the flags are an agent's.
        typer.Abort: the person has left.
    """
    if not flags.is_for_server:
        raise ConfigError(
            "--interactive asks about a server",
            hint="for an application's machine: tport join PROXY URI, which needs no file",
        )
    if not (flags.cluster_name or flags.public_addr):
        address = _ask("Where do people reach tport? A DNS name", _public, default=_own_name())
        flags = replace(flags, public_addr=address)
    flags = _with_certificates(flags, check_pair)
    if not flags.app_uri:
        uri = _ask(
            "The first application, seen from here, as http://localhost:3000; nothing: later",
            lambda text: text and check_uri(text),
        )
        flags = replace(flags, app_uri=uri)
    if flags.app_uri and not flags.app_name:
        name = _ask(
            "What is it called? Its address begins with that",
            check_app_name,
            default=_usual_name(flags.app_uri),
        )
        flags = replace(flags, app_name=name)
    return flags


def ask_where(text: str, path: Path | None, *, yes: bool) -> Path | None:
    """Show the file, and ask where to write it; None: nowhere.

    Args:
        path: where a flag says.
        yes: a flag answers that.
    """
    typer.echo(f"\n{text}", err=True)
    if path is not None:
        return (
            path if yes or typer.confirm(f"Write it to {path}?", default=True, err=True) else None
        )
    usual = "/etc/tport.yaml" if os.access("/etc", os.W_OK) else "tport.yaml"
    answer: str = typer.prompt("Write it to (- for nowhere)", default=usual, err=True)
    return None if answer.strip() in ("-", "") else Path(answer.strip())


def _with_certificates(
    flags: SampleFlags, check_pair: Callable[[str, str, str], None]
) -> SampleFlags:
    if not (flags.acme or flags.acme_email or flags.cert_file or flags.key_file):
        typer.echo(_WAYS, err=True)
        host = _address(flags.public_addr or flags.cluster_name).host
        usual = _OWN if _is_internal(host) else _ACME
        way = _ask("Which", lambda text: _one_of(text, (_ACME, _FILES, _OWN)), default=usual)
        flags = replace(flags, acme=way == _ACME)
        if way == _FILES:
            while True:
                files = [
                    _ask(what, _file) for what in ("The certificate chain's file", "Its key's")
                ]
                try:
                    check_pair(files[0], files[1], "these")
                except ConfigError as problem:
                    say(f"{problem}")
                else:
                    return replace(flags, cert_file=files[0], key_file=files[1])
    if flags.acme and not flags.acme_email:
        email = _ask("Your e-mail address, for Let's Encrypt to write to in need", check_email)
        flags = replace(flags, acme_email=email)
    return flags


def _ask(question: str, judge: Callable[[str], object], *, default: str = "") -> str:
    """Ask until the answer is one: `judge` raises TportError for what is none."""
    while True:
        answer: str = typer.prompt(question, default=default, show_default=bool(default), err=True)
        try:
            judge(answer.strip())
        except TportError as problem:
            say(f"{problem}")
        else:
            return answer.strip()


# --- What answers may be ---------------------------------------------------------------------------


def _address(text: str) -> Address:
    return parse_public_address(text, WEB_PORT)


def _public(text: str) -> Address:
    if not text:
        raise ConfigError("a server needs a name, as in tport.example.com")
    return _address(text)


def _one_of(text: str, allowed: Sequence[str]) -> None:
    if text not in allowed:
        raise ConfigError(f"expected {', '.join(allowed[:-1])} or {allowed[-1]}")


def _file(text: str) -> None:
    if not text.startswith("/"):
        raise ConfigError("expected an absolute path, as in /etc/letsencrypt/live/…/fullchain.pem")


# --- What is likely --------------------------------------------------------------------------------


def _own_name() -> str:
    """Return this machine's name if people could use it: one with a domain."""
    name = socket.gethostname()
    return name if "." in name and not name.endswith((".local", ".localdomain")) else ""


def _is_internal(host: str) -> bool:
    """Tell whether no public authority vouches for such a name. Source: RFC 6761, 6762, 8375."""
    return "." not in host or host.endswith(
        (".localhost", ".local", ".internal", ".home.arpa", ".test", ".lan", ".invalid")
    )


def _usual_name(uri: str) -> str:
    """Return what listens at such a port, if that can be only one."""
    port = urlsplit(uri).port
    found = [known.name for known in known_apps() if known.port == port]
    return found[0] if len(found) == 1 else "app"
