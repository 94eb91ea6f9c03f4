"""The cluster's authorities: what each is, what it issues, and the pin by which to know them.

    host   machines and the administrator's file: agent, proxy, auth, admin
    user   people's certificates
    web    the proxy's own certificates for browsers, where nobody gave it others;
           constrained to the proxy's names, since people put it into their trust stores
    jwt    a key without certificates: assertions for apps, sessions for agents

Each has one active key and a list of all that verifiers still trust, so that a rotation
changes no format. Keys are on P-256, but for `jwt` where RS256 may be asked for.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tport.engine.defaults import AUTHORITY_TTL, HOST_CERTIFICATE_TTL, WEB_CERTIFICATE_TTL
from tport.engine.errors import AccessDenied, InvalidRequest
from tport.engine.pki.identity import KEY_USAGES, authority_of, identity_extension
from tport.engine.pki.keys import (
    PublicKey,
    load_certificate,
    load_private_key,
    make_key,
    make_rsa_key,
    public_pem,
)
from tport.engine.types.identity import Identity

AuthorityKind = Literal["host", "user", "web", "jwt"]
SigningAlgorithm = Literal["ES256", "RS256"]

BACKDATE: Final = timedelta(hours=1)  # for verifiers whose clock lags; Let's Encrypt's figure
_CN_MAX = 64  # characters, ub-common-name and ub-organization-name; RFC 5280 appendix A.1
_PIN = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")


class Authority(msgspec.Struct, frozen=True, kw_only=True):
    """One authority with its private key, as auth stores it.

    Attributes:
        generation: counts rotations, from 1.
        key: the active private key, PEM.
        trusted: PEM certificates (`jwt`: public keys), the active key's first.
    """

    kind: AuthorityKind
    cluster: str
    generation: int
    key: str
    trusted: tuple[str, ...]

    @property
    def certificate(self) -> x509.Certificate:
        """The active certificate. There is none of kind `jwt`."""
        return load_certificate(self.trusted[0])

    def __repr__(self) -> str:
        return f"Authority({self.kind} of {self.cluster}, generation {self.generation})"


def new_authority(
    kind: AuthorityKind,
    cluster: str,
    *,
    now: datetime,
    names: Sequence[str] = (),
    algorithm: SigningAlgorithm = "ES256",
    generation: int = 1,
) -> Authority:
    """Make an authority with a fresh key.

    Args:
        now: aware; the certificate lives AUTHORITY_TTL from then.
        names: web only, and needed there: the proxy's names (DNS names, or IP addresses). The
            authority can sign for them and for their sub-domains, and for nothing else.
        algorithm: jwt only.

    Raises:
        InvalidRequest: no names for `web`, or one that is none.
    """
    if kind == "jwt":
        key = make_key() if algorithm == "ES256" else make_rsa_key()
        trusted = public_pem(load_private_key(key).public_key())
    else:
        key = make_key()
        trusted = _self_signed(kind, cluster, key, names, now)
    return Authority(kind=kind, cluster=cluster, generation=generation, key=key, trusted=(trusted,))


def _self_signed(
    kind: AuthorityKind, cluster: str, key: str, names: Sequence[str], now: datetime
) -> str:
    private = load_private_key(key)
    subject = _name(f"tport {kind} CA", cluster)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + AUTHORITY_TTL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False
        )
    )
    if kind == "web":
        builder = builder.add_extension(_constraints(names), critical=True)
    return _pem(builder.sign(private, hashes.SHA256()))


def issue_host_certificate(
    authority: Authority,
    public_key: PublicKey,
    identity: Identity,
    *,
    now: datetime,
    ttl: timedelta = HOST_CERTIFICATE_TTL,
    dns_names: Sequence[str] = (),
) -> str:
    """Issue the certificate (PEM) of an agent, a proxy or an auth service.

    It ends with its authority at the latest. `dns_names` are for clients that match names;
    ours match the identity instead.

    Raises:
        InvalidRequest: an identity that this authority does not issue, or that can't be written.
    """
    if identity.kind not in ("agent", "proxy", "auth"):
        raise InvalidRequest(f"{identity.kind!r} is no host")
    return _issue_identity(authority, public_key, identity, now=now, ttl=ttl, dns_names=dns_names)


def issue_admin_certificate(
    authority: Authority, public_key: PublicKey, *, name: str, now: datetime, ttl: timedelta
) -> str:
    """Issue the certificate (PEM) that makes its holder the administrator; the host CA's."""
    identity = Identity(kind="admin", name=name, cluster=authority.cluster)
    return _issue_identity(authority, public_key, identity, now=now, ttl=ttl)


def _issue_identity(
    authority: Authority,
    public_key: PublicKey,
    identity: Identity,
    *,
    now: datetime,
    ttl: timedelta,
    dns_names: Sequence[str] = (),
) -> str:
    if authority_of(identity.kind) != authority.kind or identity.cluster != authority.cluster:
        raise InvalidRequest(
            f"the {authority.kind} authority of {authority.cluster} issues nothing for "
            f"{identity.kind!r} of {identity.cluster}"
        )
    builder = (
        _leaf(authority, public_key, now, ttl)
        .subject_name(_name(f"tport {identity.kind}", identity.cluster))
        .add_extension(x509.ExtendedKeyUsage(KEY_USAGES[identity.kind]), critical=False)
        .add_extension(identity_extension(identity), critical=True)
    )
    if dns_names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in dns_names]),
            critical=False,
        )
    return _pem(builder.sign(load_private_key(authority.key), hashes.SHA256()))


def issue_web_certificate(
    authority: Authority,
    public_key: PublicKey,
    host: str,
    *,
    now: datetime,
    ttl: timedelta = WEB_CERTIFICATE_TTL,
) -> str:
    """Issue a browser's certificate (PEM) for one host: a lower-case name or an address.

    `*.<name>` is for what nobody serves, one label below a proxy's name.

    Made to pass strict verifiers: RFC 5280, and the CA/Browser Forum's rules on lifetime
    (under 398 days), key usage and names.

    Raises:
        InvalidRequest: the authority's constraints don't permit this host.
    """
    if authority.kind != "web":
        raise InvalidRequest(f"the {authority.kind} authority issues nothing for browsers")
    if not permits(authority.trusted[0], host):
        raise InvalidRequest(
            f"tport's own web CA may not sign for {host!r}",
            hint="it signs for the proxy's names and their sub-domains; for any other name give "
            "a certificate in https_keypairs, or use ACME",
        )
    # Of an address OpenSSL would hold a common name against the constraints on DNS names.
    is_named = isinstance(_general_name(host), x509.DNSName) and len(host) <= _CN_MAX
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)] if is_named else [])
    builder = (
        _leaf(authority, public_key, now, ttl)
        .subject_name(subject)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        # Critical exactly when nothing else names the holder: RFC 5280 §4.2.1.6.
        .add_extension(
            x509.SubjectAlternativeName([_general_name(host)]), critical=not subject.rdns
        )
    )
    return _pem(builder.sign(load_private_key(authority.key), hashes.SHA256()))


@lru_cache(maxsize=4096)
def permits(web_authority: str, host: str) -> bool:
    """Whether a web authority's (PEM) name constraints allow a certificate for `host`.

    Remembered: a proxy looks at all its hosts every few seconds.
    """
    try:
        wanted = _general_name(host)
    except InvalidRequest:
        return False
    authority = load_certificate(web_authority)
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints)
    return any(_within(wanted, tree) for tree in constraints.value.permitted_subtrees or ())


def bundle_pin(host_certs: Iterable[str], web_certs: Iterable[str]) -> str:
    """Return the pin of a cluster: SHA-256 hex over its host and web authorities' certificates.

    The order of certificates (PEM) does not matter; which of the two lists each is in does, and
    lengths are hashed too, so that no other pair of lists has the same pin.
    """
    digest = hashlib.sha256(b"tport bundle 1")
    for kind, certs in ((b"host", host_certs), (b"web", web_certs)):
        ders = sorted(
            load_certificate(pem).public_bytes(serialization.Encoding.DER) for pem in certs
        )
        digest.update(kind + len(ders).to_bytes(4, "big"))
        for der in ders:
            digest.update(len(der).to_bytes(4, "big") + der)
    return digest.hexdigest()


def check_bundle(
    pin: str, host_certs: Iterable[str], web_certs: Iterable[str], *, source: str = "the CA pin"
) -> None:
    """Check what a proxy says its authorities are against the pin that came by another way.

    Args:
        source: what had the pin, for the message.

    Raises:
        InvalidRequest: `pin` is none (64 hex digits, `sha256:` may stand before them).
        AccessDenied: these are other authorities.
    """
    match = _PIN.fullmatch(pin.strip().lower())
    if match is None:
        raise InvalidRequest("this is no CA pin: 64 hex digits are one")
    actual = bundle_pin(host_certs, web_certs)
    if not hmac.compare_digest(match[1], actual):
        raise AccessDenied(
            f"the proxy's authorities are not those of {source}: either it is another "
            "cluster's proxy, or somebody sits between",
            reason=f"pin {match[1]}, proxy shows {actual}",
            hint="make a new token on the auth service of the cluster you mean: tport tokens add;"
            " its CA pin is what follows the dot",
        )


def _leaf(
    authority: Authority, public_key: PublicKey, now: datetime, ttl: timedelta
) -> x509.CertificateBuilder:
    issuer = authority.certificate
    issuer_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(min(now + ttl, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id),
            critical=False,
        )
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    """An authority signs certificates and nothing else; a leaf signs handshakes (ECDHE suites)."""
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _constraints(names: Sequence[str]) -> x509.NameConstraints:
    if not names:
        raise InvalidRequest("the web authority needs the proxy's names")
    permitted = [_general_name(name, subtree=True) for name in names]
    if all(isinstance(name, x509.IPAddress) for name in permitted):
        # A constraint on addresses says nothing of DNS names: one that is nobody's leaves out all
        # others. RFC 6761 §6.4
        permitted.append(x509.DNSName("invalid"))
    if any(isinstance(name, x509.IPAddress) for name in permitted):
        return x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None)
    # Nor the other way round: addresses must be excluded by themselves.
    every = [x509.IPAddress(ipaddress.ip_network(net)) for net in ("0.0.0.0/0", "::/0")]
    return x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=every)


def _general_name(name: str, *, subtree: bool = False) -> x509.GeneralName:
    try:
        address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        pass
    else:
        return x509.IPAddress(ipaddress.ip_network(address) if subtree else address)
    if _DNS_NAME.fullmatch(name) is None or (subtree and "*" in name):
        raise InvalidRequest(f"{name!r} is no host name (a-z, 0-9, - and dots)")
    return x509.DNSName(name)


def _within(name: x509.GeneralName, tree: x509.GeneralName) -> bool:
    if isinstance(name, x509.DNSName) and isinstance(tree, x509.DNSName):
        return name.value == tree.value or name.value.endswith(f".{tree.value}")
    if isinstance(name, x509.IPAddress) and isinstance(tree, x509.IPAddress):
        return ipaddress.ip_network(str(name.value)) == tree.value  # each is for one address
    return False


def _name(common_name: str, cluster: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster[:_CN_MAX]),
        ]
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def is_current(made: datetime, now: datetime, *, until: timedelta) -> bool:
    """Tell whether a certificate that we made at `made` may be shown on, and need not be made anew.

    It need when the clock was set back to before it is valid, too.

    Args:
        until: after which it is renewed.
    """
    return made - BACKDATE <= now < made + until
