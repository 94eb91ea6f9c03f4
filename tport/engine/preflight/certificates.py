"""The operator's certificates: that each is whole, in time, and that all names have one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import AuthorityInformationAccessOID

from tport.engine.errors import ConfigError
from tport.engine.pki.keys import load_certificates
from tport.engine.preflight.row import Row, ok, problem

SOON: Final = timedelta(days=14)  # certbot renews at 30; who still waits then has a problem

FindIssuer = Callable[[x509.Certificate], x509.Certificate | None]


class PairFiles(msgspec.Struct, frozen=True, kw_only=True):
    """A pair of https_keypairs, read.

    Attributes:
        chain, key: PEM; b"" when `said` tells why they couldn't be read.
    """

    cert_file: str
    key_file: str
    chain: bytes = b""
    key: bytes = b""
    said: str = ""


def judge_pairs(
    pairs: Sequence[PairFiles],
    *,
    names: Sequence[str],
    apps: Sequence[str],
    now: datetime,
    known_issuer: FindIssuer,
    alone: bool = True,
) -> list[Row]:
    """Return a row for each pair, and one for the names that have none.

    Args:
        names: the proxy's, below the first of which applications are.
        apps: hosts of applications that are known here. When all have one, the wildcard is the
            choice of those who have others on other machines.
        known_issuer: finds the authority among those that this machine trusts.
        alone: nobody else gets certificates for the names that have none here.
    """
    rows, covered = [], set[str]()
    for pair in pairs:
        row, found = _judge_pair(pair, now, known_issuer)
        rows.append(row)
        covered |= found
    if not alone:
        return rows
    missing = [name for name in names if not _covers(covered, name)]
    if f"*.{names[0]}" not in covered and not (apps and all(_covers(covered, app) for app in apps)):
        missing.append(f"*.{names[0]}")
    below = f".{names[0]}"
    missing += [app for app in apps if not app.endswith(below) and not _covers(covered, app)]
    if missing:
        rows.append(
            problem(
                "certificates' names",
                f"none is for {', '.join(missing)}: browsers will warn there",
                f"get one that is, as by: certbot certonly -d {' -d '.join(missing)}",
            )
        )
    elif pairs:
        rows.append(ok("certificates' names", "every name has one"))
    return rows


def _covers(covered: set[str], name: str) -> bool:
    return name in covered or f"*.{name.partition('.')[2]}" in covered


def _judge_pair(pair: PairFiles, now: datetime, known_issuer: FindIssuer) -> tuple[Row, set[str]]:
    """Return what a pair is worth, and the names that it is for; none when it can't be shown."""
    check = f"certificate {pair.cert_file}"
    if pair.said:
        return problem(check, pair.said, "let who runs tport read both files"), set()
    try:
        chain = load_certificates(pair.chain.decode("latin-1"))
    except ConfigError as fault:
        return problem(check, str(fault), "cert_file is fullchain.pem"), set()
    try:
        key = load_pem_private_key(pair.key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it wants a password
        advice = "openssl pkey -in OLD -out NEW takes a password away"
        return problem(check, f"{pair.key_file} is no key in PEM, or has a password", advice), set()
    leaf = chain[0]
    if leaf.public_key() != key.public_key():
        advice = (
            "name the key that it was made with; in cert_file the server's certificate is first"
        )
        return problem(check, f"{pair.key_file} is not its key", advice), set()
    names = _names(leaf)
    left = leaf.not_valid_after_utc - now
    until = f"{leaf.not_valid_after_utc:%Y-%m-%d}"
    if left <= timedelta():
        return problem(check, f"expired on {until}", "renew it: certbot renew"), names
    if leaf.not_valid_before_utc > now:
        begins = f"{leaf.not_valid_before_utc:%Y-%m-%d}"
        return problem(check, f"is valid only from {begins}", "is the clock right?"), names
    if (gap := _gap(chain, known_issuer)) is not None:
        return problem(check, *gap), names
    found = f"{', '.join(sorted(names)) or 'no name'}; {left.days} days left"
    if left < SOON:
        return problem(check, f"{found}, until {until}", "renew it: certbot renew"), names
    return ok(check, found), names


def _gap(chain: list[x509.Certificate], known_issuer: FindIssuer) -> tuple[str, str] | None:
    """Return what is wrong with a chain and what to do; None: browsers can follow it to its end."""
    for lower, upper in pairwise(chain):
        if not _issued(lower, upper):
            said = f"the chain is broken: {_name(upper)} did not issue {_name(lower)}"
            return said, "the order is: server, then who issued it, and so on"
    last = chain[-1]
    if known_issuer(last) is not None:
        return None
    if _issued(last, last):
        if len(chain) == 1:
            return "is signed by itself: browsers warn", "take one of an authority, or tport's own"
        return (
            f"ends at {_name(last)}, which this machine doesn't trust",
            "all right where browsers do; else take one of a public authority",
        )
    where = _issuer_uri(last)
    fetch = f"it is at {where}; " if where else ""
    return (
        f"the chain ends at {_name(last)}, without who issued that: some browsers warn",
        f"{fetch}append the missing certificate; certbot's fullchain.pem has it, cert.pem doesn't",
    )


def _issued(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    try:
        lower.verify_directly_issued_by(upper)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _names(leaf: x509.Certificate) -> set[str]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return set()
    return {name.lower() for name in found.get_values_for_type(x509.DNSName)}


def _name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return repr(str(names[0].value)) if names else "the first certificate"


def _issuer_uri(certificate: x509.Certificate) -> str:
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    except (x509.ExtensionNotFound, ValueError):
        return ""
    for access in found.value:
        if access.access_method == AuthorityInformationAccessOID.CA_ISSUERS:
            return str(access.access_location.value)
    return ""
