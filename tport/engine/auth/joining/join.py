"""How machines enter the cluster and stay in it: host certificates, made and renewed."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as HostKey
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from tport.engine.access.limits import AddressLimiter
from tport.engine.api.answers import Joined
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.joining.hosts import Hosts
from tport.engine.auth.joining.tokens import Tokens, pinned_apps, used
from tport.engine.auth.rights.locks import Locks
from tport.engine.auth.stores import SWAP_TRIES, JoinedHost
from tport.engine.defaults import HOST_CERTIFICATE_TTL, HOST_RENEWAL_GRACE, JOIN_FAILURES_PER_MINUTE
from tport.engine.errors import (
    AccessDenied,
    AlreadyExists,
    CompareFailed,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from tport.engine.pki.authority import issue_admin_certificate, issue_host_certificate
from tport.engine.pki.identity import identity_of
from tport.engine.pki.keys import (
    KeyPair,
    PublicKey,
    load_certificate,
    load_private_key,
    make_key,
    public_key_id,
    public_key_of_csr,
)
from tport.engine.pki.renewal import check_renewal
from tport.engine.types.identity import Identity, IdentityKind
from tport.engine.types.token import JoinRole, JoinToken, split_join_token

JOIN_REPEAT: Final = timedelta(hours=24)  # static tokens: how long one key joins as one host
ADMIN_TTL: Final = timedelta(days=3650)  # admin.pem: whoever can read it can read auth's keys too
MAX_HOSTNAME: Final = 255  # characters
_KINDS: Final[dict[JoinRole, IdentityKind]] = {"app": "agent"}


class Join:
    def __init__(self, cluster: Cluster, tokens: Tokens, locks: Locks) -> None:
        self._cluster = cluster
        self._tokens = tokens
        self._locks = locks
        self._hosts = Hosts(cluster, locks)
        self._limiter = AddressLimiter(
            cluster.clock, per_minute=JOIN_FAILURES_PER_MINUTE, burst=JOIN_FAILURES_PER_MINUTE
        )

    async def join(
        self, token: str, csr: str, role: JoinRole, hostname: str, remote: str
    ) -> Joined:
        self._limiter.check(remote)
        try:
            secret, _ = split_join_token(token)
            key = public_key_of_csr(csr)
            known = await self._tokens.check(secret, role)
            host_id = await self._use(known, public_key_id(key))
            await self._locks.check_host(host_id)
            joined = await self._enter(
                Identity(
                    kind=_KINDS[role],
                    name=host_id,
                    cluster=self._cluster.name,
                    apps=pinned_apps(known),
                    hostname=_shown(hostname),
                ),
                key,
                remote,
            )
        except (AccessDenied, InvalidRequest) as problem:
            self._limiter.take(remote)
            reason = problem.reason if isinstance(problem, AccessDenied) else str(problem)
            await self._cluster.emit(
                "instance.join.failed",
                method="token",
                role=role,
                node_name=_shown(hostname),
                remote=remote,
                error=reason,
            )
            raise
        await self._cluster.record(
            "instance.join",
            method="token",
            role=role,
            node_name=_shown(hostname),
            host_id=host_id,
            token_name=known.fingerprint,
            remote=remote,
            success=True,
        )
        return joined

    async def renew(self, certificate: str, csr: str, proof: str, remote: str) -> Joined:
        """Certify the next key for who the last certificate says, when its key signed for it.

        The same request gives the same host and generation as often as it is asked.
        """
        self._limiter.check(remote)
        try:
            cert = _read_certificate(certificate)
            identity = identity_of(
                cert.public_bytes(Encoding.DER),
                authorities=self._cluster.authorities,
                expected_kinds=("agent", "proxy"),
                now=self._cluster.clock(),
                grace=HOST_RENEWAL_GRACE,
                early=True,
            )
            check_renewal(cert, csr, proof)
            key = public_key_of_csr(csr)
            await self._locks.check_host(identity.name)
            generation = await self._hosts.advance(
                identity.name,
                public_key_id(key),
                shown=identity.generation,
                shown_key=_key_id(cert),
                hostname=identity.hostname,
                remote=remote,
            )
        except (AccessDenied, InvalidRequest) as problem:
            self._limiter.take(remote)
            await self._cluster.emit("auth.failed", call="renew", remote=remote, error=str(problem))
            raise
        joined = self._certify(replace(identity, generation=generation), key)
        await self._cluster.record(
            "cert.create",
            cert_type=identity.kind,
            host_id=identity.name,
            generation=generation,
            remote=remote,
        )
        return joined

    async def admit(
        self,
        host_id: str,
        key: HostKey,
        hostname: str,
        *,
        apps: tuple[str, ...],
        uri: str,
        remote: str,
    ) -> Joined:
        """Certify an agent that somebody let join, for these names at this address alone."""
        identity = Identity(
            kind="agent",
            name=host_id,
            cluster=self._cluster.name,
            apps=apps,
            hostname=_shown(hostname),
            uri=uri,
        )
        return await self._enter(identity, key, remote)

    # --- For this process ------------------------------------------------------------------------

    def host_identity(self, kind: IdentityKind, host_id: str) -> KeyPair:
        """Make a key and certificate for a service that runs in auth's own process."""
        key = make_key()
        identity = Identity(kind=kind, name=host_id, cluster=self._cluster.name)
        joined = self._certify(identity, load_private_key(key).public_key())
        return KeyPair(chain=joined.certificate, key=key)

    def admin_identity(self, name: str) -> KeyPair:
        """Make a key and certificate that administer the cluster."""
        key = make_key()
        certificate = issue_admin_certificate(
            self._cluster.keys["host"],
            load_private_key(key).public_key(),
            name=name,
            now=self._cluster.clock(),
            ttl=ADMIN_TTL,
        )
        return KeyPair(chain=certificate, key=key)

    # --- Parts -----------------------------------------------------------------------------------

    async def _use(self, token: JoinToken, key_id: str) -> str:
        """Count a use of the token and return the host that this key becomes.

        The same token and key give the same host and count once: an agent whose answer got
        lost may ask again.
        """
        stores, name = self._cluster.stores, f"{token.id}/{key_id}"
        expires = token.expires or self._cluster.clock() + JOIN_REPEAT
        for _ in range(SWAP_TRIES):
            if (before := await stores.joins.find(name)) is not None:
                return before.host_id
            host = JoinedHost(host_id=str(uuid.uuid4()))
            joining = stores.joins.creating(name, host, expires=expires)
            try:
                if token.static:
                    await stores.batch([joining])
                else:
                    read = await stores.tokens.read(token.id)
                    using = stores.tokens.swapping(
                        token.id, read, used(read.value), expires=read.expires
                    )
                    await stores.batch([using, joining])
            except (CompareFailed, AlreadyExists):
                continue
            except NotFound:
                raise AccessDenied(
                    "unknown token", hint="it was deleted just now; make a new one"
                ) from None
            return host.host_id
        raise Unavailable("too many machines join with this token at once; try again")

    async def _enter(self, identity: Identity, key: HostKey, remote: str) -> Joined:
        """Certify who joins. The same key may ask again, until a renewal took its place."""
        key_id = public_key_id(key)
        generation = await self._hosts.advance(
            identity.name,
            key_id,
            shown=0,
            shown_key=key_id,
            hostname=identity.hostname,
            remote=remote,
        )
        return self._certify(replace(identity, generation=generation), key)

    def _certify(self, identity: Identity, key: PublicKey) -> Joined:
        now = self._cluster.clock()
        certificate = issue_host_certificate(
            self._cluster.keys["host"], key, identity, now=now, ttl=HOST_CERTIFICATE_TTL
        )
        return Joined(
            certificate=certificate,
            host_id=identity.name,
            authorities=self._cluster.authorities,
            renew_at=now + HOST_CERTIFICATE_TTL / 2,
            expires=load_certificate(certificate).not_valid_after_utc,
        )


def _read_certificate(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise InvalidRequest("this is no certificate in PEM form") from None


def _key_id(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    assert isinstance(key, HostKey), "check_renewal has seen it"
    return public_key_id(key)


def _shown(hostname: str) -> str:
    """Return what a machine calls itself, as far as it can be written down."""
    return "".join(c for c in hostname if c.isprintable())[:MAX_HOSTNAME]
