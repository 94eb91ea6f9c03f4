"""Look at files and folders. All of it blocks, and runs in a thread."""

from __future__ import annotations

import os
import ssl
import stat
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning

from tport.engine.agent.state import load_state
from tport.engine.config.address import Address, parse_dial_address
from tport.engine.config.model import Config, KeyPair
from tport.engine.config.secret_file import read_secret_file
from tport.engine.defaults import WEB_PORT
from tport.engine.errors import ConfigError, InvalidRequest
from tport.engine.preflight.certificates import PairFiles
from tport.engine.preflight.machine import Folder
from tport.engine.preflight.others import TokenState
from tport.engine.storage.folder import check_folder
from tport.engine.types.token import split_join_token

AUTH_DIR: Final = "auth"  # these as tport.engine.process has them
PROXY_DIR: Final = "proxy"
AGENT_DIR: Final = "agent"
MOUNTS: Final = Path("/proc/self/mountinfo")


def look_at_folder(path: Path, mounts: Path = MOUNTS, *, folders: Sequence[str] = ()) -> Folder:
    """Look at a data directory, or at where it would be made, and at these folders of roles in it."""
    there = path
    while not os.path.exists(there) and there != there.parent:
        there = there.parent
    found = there.stat()
    space = os.statvfs(there)
    refused, advice, notes = "", "", list[str]()
    try:
        if there == path and there.is_dir():
            notes = [note for name in folders for note in check_folder(path / name)]
    except ConfigError as problem:
        refused, advice = str(problem), problem.hint
    except OSError as problem:
        refused = f"{path} can't be looked at: {str(problem.strerror).lower()}"
        advice = "see to it that it can, or name another folder: data_dir"
    own = [path / name for name in folders if os.path.exists(path / name)]
    needed = own if folders and len(own) == len(folders) else [there, *own]
    closed = next((each for each in needed if not _may_write(each)), None)
    return Folder(
        path=str(path),
        parent="" if there == path else str(there),
        is_folder=there.is_dir(),
        owner=_user(found.st_uid),
        me=_user(os.geteuid()),
        closed=str(closed or ""),
        closed_by=_user(closed.stat().st_uid) if closed else "",
        refused=refused,
        advice=advice,
        note="; ".join(dict.fromkeys(notes)),
        free=space.f_bavail * space.f_frsize,
        filesystem=_filesystem(there.resolve(), mounts),
    )


def _may_write(folder: Path) -> bool:
    by_effective = os.access in os.supports_effective_ids
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=by_effective)


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # as in a container
        return f"user {number}"


def _filesystem(path: Path, mounts: Path) -> str:
    """Return the type of the file system that holds a path; "": not known. proc(5), mountinfo."""
    best, kind = -1, ""
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        # A blank in a path is written as \040.
        place = Path(fields[4].encode().decode("unicode_escape"))
        if path.is_relative_to(place) and len(place.parts) >= best:
            best, kind = len(place.parts), after.split()[0]
    return kind


def read_pair(pair: KeyPair) -> PairFiles:
    """Read a certificate chain and its key."""
    files = PairFiles(cert_file=str(pair.cert_file), key_file=str(pair.key_file))
    read = []
    for path in (pair.cert_file, pair.key_file):
        try:
            read.append(path.read_bytes())
        except OSError as problem:
            said = f"{path} can't be read: {str(problem.strerror).lower()}"
            return PairFiles(cert_file=files.cert_file, key_file=files.key_file, said=said)
    return PairFiles(cert_file=files.cert_file, key_file=files.key_file, chain=read[0], key=read[1])


def look_at_program(path: Path) -> str:
    """Return why a program can't be run by who asks; "": nothing speaks against it."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "is no file"
    except OSError as problem:
        return str(problem.strerror).lower()
    return "" if os.access(path, os.X_OK) else f"{_user(os.geteuid())} may not run it"


def looks_for_another() -> bool:
    """Tell whether who asks is root, and the files are there for the user of a service."""
    return os.geteuid() == 0


def trusted_issuers() -> Callable[[x509.Certificate], x509.Certificate | None]:
    """Return what finds a certificate's issuer among the authorities that this machine trusts."""
    by_name: dict[bytes, list[x509.Certificate]] = {}
    with warnings.catch_warnings():
        # Some old authority is not to the letter, which is no news to who checks a file.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        for der in ssl.create_default_context().get_ca_certs(binary_form=True):
            try:
                authority = x509.load_der_x509_certificate(der)
                by_name.setdefault(authority.subject.public_bytes(), []).append(authority)
            except ValueError:
                continue

    def find(certificate: x509.Certificate) -> x509.Certificate | None:
        for authority in by_name.get(certificate.issuer.public_bytes(), ()):
            try:
                certificate.verify_directly_issued_by(authority)
            except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
                continue
            return authority
        return None

    return find


# --- What an agent joins with ----------------------------------------------------------------------


class Joining(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent has in hand. Not the token itself.

    Attributes:
        proxy: where it dials; None: nobody said.
        pins: of the file, and that of the token.
        joined: when the certificate that it got by joining ends; "": it hasn't joined.
    """

    proxy: Address | None = None
    pins: tuple[str, ...] = ()
    joined: str = ""
    token: TokenState = "none"  # noqa: S105 - no secret
    token_said: str = ""


def look_at_joining(config: Config) -> Joining:
    """Look at what an agent knows of its cluster; nothing is used up by it."""
    found = _of_state(config)
    read = partial(read_secret_file, any_owner=looks_for_another())
    pins: list[str] = []
    token, said = found.token, found.token_said
    secret = config.auth_token
    try:
        for pin in config.ca_pin:
            pins += read(Path(pin))[0].split() if pin.startswith("/") else [pin]
    except ConfigError as problem:
        token, said = "unreadable", f"ca_pin: {problem}"
        secret = None
    if secret is not None and not found.joined:
        try:
            text = secret.text if secret.file is None else read(secret.file)[0]
            _, pin = split_join_token(text)
            pins += [pin] if pin else []
            token = "sound"  # noqa: S105 - no secret
        except ConfigError as problem:
            token, said = "unreadable", str(problem)
        except InvalidRequest:
            token = "malformed"  # noqa: S105 - no secret
    return msgspec.structs.replace(
        found,
        proxy=config.proxy_addr or found.proxy,
        pins=tuple(pins),
        token=token,
        token_said=said,
    )


def _of_state(config: Config) -> Joining:
    try:
        state = load_state(config.data_dir / AGENT_DIR)
    except ConfigError as problem:
        return Joining(token="unreadable", token_said=str(problem))  # noqa: S106 - no secret
    if state is None:
        return Joining()
    return Joining(
        proxy=parse_dial_address(state.proxy, WEB_PORT), joined=f"{state.expires:%Y-%m-%d %H:%M}Z"
    )
