"""TLS-01 to TLS-08, as far as contexts and certificates decide them."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.certs import Cluster, der, forge, handshake
from tport.engine.errors import AccessDenied, ConfigError, InvalidRequest
from tport.engine.pki.authority import issue_host_certificate, new_authority
from tport.engine.pki.contexts import (
    auth_client_context,
    auth_server_context,
    https_context,
    tunnel_client_context,
    tunnel_server_context,
)
from tport.engine.pki.identity import identity_extension, identity_of
from tport.engine.pki.keys import (
    KeyPair,
    load_certificate,
    load_private_key,
    make_key,
    public_key_of_csr,
)
from tport.engine.types.identity import Identity, IdentityKind

US, STRANGERS = Cluster(), Cluster(name="tport.test")
TRUSTED = US.host.trusted
HOUR = timedelta(hours=1)

DOORS: dict[str, frozenset[IdentityKind]] = {
    "tunnel": frozenset({"agent"}),
    "auth": frozenset({"agent", "proxy", "admin"}),
    "proxy's tunnel": frozenset({"proxy"}),  # seen from the agent
    "auth's service": frozenset({"auth"}),  # seen from its clients
}


def intermediate(*, ca: bool) -> KeyPair:
    """A certificate made with another host's key, which comes along as if it were an authority."""
    host = forge(US.host, US.identity("agent", "mallory"), ca=ca)
    leaf = forge(host, US.identity("agent"))
    return KeyPair(chain=leaf.chain + host.chain, key=leaf.key)


PEERS: dict[str, Callable[[], KeyPair]] = {
    "agent": lambda: US.pair("agent"),
    "proxy": lambda: US.pair("proxy"),
    "auth": lambda: US.pair("auth"),
    "admin": lambda: US.pair("admin"),
    "user": lambda: US.pair("user"),
    "user's, signed by the host authority": lambda: forge(US.host, US.identity("user")),
    "agent's, signed by the user authority": lambda: forge(US.user, US.identity("agent")),
    "proxy's, signed by the user authority": lambda: forge(US.user, US.identity("proxy")),
    "agent's, signed by the web authority": lambda: forge(US.web, US.identity("agent")),
    "self-signed": lambda: forge(None, US.identity("agent")),
    "self-signed proxy": lambda: forge(None, US.identity("proxy")),
    "of other authorities": lambda: STRANGERS.pair("agent"),
    "proxy of other authorities": lambda: STRANGERS.pair("proxy"),
    "expired": lambda: forge(US.host, US.identity("agent"), start=-2 * HOUR, end=-HOUR),
    "expired proxy": lambda: forge(US.host, US.identity("proxy"), start=-2 * HOUR, end=-HOUR),
    "not yet valid": lambda: forge(US.host, US.identity("agent"), start=HOUR, end=2 * HOUR),
    "under a leaf": lambda: intermediate(ca=False),
    "under an intermediate": lambda: intermediate(ca=True),
    "CA:TRUE": lambda: forge(US.host, US.identity("agent"), ca=True),
    "CA:TRUE proxy": lambda: forge(US.host, US.identity("proxy"), ca=True),
    "without identity": lambda: forge(US.host, None),
}  # fmt: skip


def knock(door: str, pair: KeyPair) -> Identity | None:
    """Shake hands through the contexts of the product and identify, as its services do.

    Raises:
        ssl.SSLError: the handshake itself refused.
        AccessDenied: the certificate did not convince.
    """
    if door == "tunnel":
        server, client = tunnel_server_context(US.pair("proxy"), TRUSTED), _shows(pair)
        peer = handshake(server, client)[0]
    elif door == "auth":
        server, client = auth_server_context(US.pair("auth"), TRUSTED), _shows(pair)
        peer = handshake(server, client)[0]
    elif door == "proxy's tunnel":
        server = tunnel_server_context(pair, TRUSTED)
        peer = handshake(server, tunnel_client_context(US.pair("agent"), TRUSTED))[1]
    else:
        server = auth_server_context(pair, TRUSTED)
        peer = handshake(server, auth_client_context(US.pair("agent"), TRUSTED))[1]
    certificate = peer.getpeercert(binary_form=True)
    if certificate is None:
        return None
    return identity_of(
        certificate, authorities=US.authorities, expected_kinds=DOORS[door], now=US.now
    )


def _shows(pair: KeyPair) -> ssl.SSLContext:
    """A client that shows any certificate and doesn't care whom it talks to."""
    context = tunnel_client_context(pair, TRUSTED)
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["tport-tunnel/1", "tport-auth/1"])
    return context


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("peer", PEERS)
def test_tls_06_each_door_opens_for_its_own_kind_only(door: str, peer: str) -> None:
    """The whole matrix of who shows what at which door: only the diagonal succeeds."""
    if peer in DOORS[door]:
        identity = knock(door, PEERS[peer]())
        assert identity is not None
        assert identity.kind == peer
    else:
        with pytest.raises((ssl.SSLError, AccessDenied)):
            knock(door, PEERS[peer]())


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("door", DOORS)
def test_tls_06_the_identity_check_alone_is_as_strict_as_with_the_handshake(
    door: str, peer: str
) -> None:
    """A context made wrongly opens nothing: the certificate by itself is judged the same."""
    certificate = der(PEERS[peer]())
    try:
        identity = identity_of(
            certificate, authorities=US.authorities, expected_kinds=DOORS[door], now=US.now
        )
    except AccessDenied:
        assert peer not in DOORS[door]
    else:
        assert identity.kind == peer
        assert peer in DOORS[door]


@pytest.mark.parametrize("name", [None, "proxy.test", "grafana.proxy.test", "unknown.test"])
def test_tls_01_no_certificate_opens_no_tunnel_whatever_the_sni(name: str | None) -> None:
    """The alert ends the handshake before one byte of the client's has been read."""
    client = auth_client_context(None, TRUSTED)
    client.set_alpn_protocols(["tport-tunnel/1"])

    with pytest.raises(
        ssl.SSLError, match=r"PEER_DID_NOT_RETURN_A_CERTIFICATE|CERTIFICATE_REQUIRED"
    ):
        handshake(tunnel_server_context(US.pair("proxy"), TRUSTED), client, server_hostname=name)


@pytest.mark.parametrize("door", ["tunnel", "auth"])
def test_tls_02_nothing_that_carries_a_certificate_can_be_resumed(door: str) -> None:
    """No ticket is given, and TLS 1.2, where sessions have ids in the server too, is not spoken."""
    make = tunnel_server_context if door == "tunnel" else auth_server_context
    server = make(US.pair("proxy" if door == "tunnel" else "auth"), TRUSTED)
    client = _shows(US.pair("agent"))
    client.options &= ~ssl.OP_NO_TICKET

    _, first = handshake(server, client, server_hostname="grafana.proxy.test")
    _, second = handshake(server, client, server_hostname="admin.proxy.test", session=first.session)

    assert first.session is None or not first.session.has_ticket
    assert not second.session_reused
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(server, client)


def test_tls_02_an_identity_ends_with_its_authority() -> None:
    """The host authority is replaced: what it signed is nobody's certificate any more."""
    rotated = msgspec.structs.replace(
        US.authorities, host=new_authority("host", US.name, now=US.now).trusted
    )

    with pytest.raises(AccessDenied, match="no host authority of this cluster"):
        identity_of(
            der(US.pair("agent")), authorities=rotated, expected_kinds=["agent"], now=US.now
        )


def test_tls_03_a_host_certificate_means_nothing_to_a_browser() -> None:
    """Its authority is another one than the web's, though it may carry the same name."""
    key = make_key()
    chain = issue_host_certificate(
        US.host,
        load_private_key(key).public_key(),
        US.identity("proxy"),
        now=US.now,
        dns_names=["proxy.test"],
    )
    server = tunnel_server_context(KeyPair(chain=chain, key=key), TRUSTED)
    server.verify_mode = ssl.CERT_NONE

    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, https_context(authorities=US.web.trusted), server_hostname="proxy.test")


def test_tls_04_the_tunnel_and_auth_speak_no_protocol_but_their_own() -> None:
    for server, protocol in (
        (tunnel_server_context(US.pair("proxy"), TRUSTED), "tport-tunnel/1"),
        (auth_server_context(US.pair("auth"), TRUSTED), "tport-auth/1"),
    ):
        client = tunnel_client_context(US.pair("agent"), TRUSTED)
        client.set_alpn_protocols(["http/1.1", "tport-tunnel/1", "tport-auth/1"])
        ends = handshake(server, client)
        assert {end.selected_alpn_protocol() for end in ends} == {protocol}


@pytest.mark.parametrize(
    "authorities",
    [
        [],
        [""],
        ["# no certificate here\n"],
        [TRUSTED[0][: len(TRUSTED[0]) // 2]],
        [TRUSTED[0].replace("MII", "!!!")],
    ],
)
def test_tls_05_a_context_without_authorities_is_an_error_and_never_open(
    authorities: list[str],
) -> None:
    pair = US.pair("proxy")
    makers: list[Callable[[], ssl.SSLContext]] = [
        lambda: tunnel_server_context(pair, authorities),
        lambda: auth_server_context(pair, authorities),
        lambda: tunnel_client_context(pair, authorities),
        lambda: auth_client_context(None, authorities),
        lambda: https_context(authorities=authorities or [""]),
    ]
    for make in makers:
        with pytest.raises(ConfigError):
            make()


@pytest.mark.parametrize("name", ["a,role=admin", "a/O=editor", 'a","kind":"admin', "CN=admin"])
def test_tls_07_a_name_full_of_delimiters_is_a_strange_name_and_no_role(name: str) -> None:
    key = make_key()
    chain = issue_host_certificate(
        US.host, load_private_key(key).public_key(), US.identity("agent", name), now=US.now
    )

    identity = knock("tunnel", KeyPair(chain=chain, key=key))

    assert identity == US.identity("agent", name)


@pytest.mark.parametrize("name", ["a\x00b", "a\r\nb", "x" * 300, ""])
def test_tls_07_a_name_that_no_certificate_should_hold_is_refused_at_both_ends(name: str) -> None:
    with pytest.raises(InvalidRequest):
        identity_extension(US.identity("agent", name))
    with pytest.raises(AccessDenied):
        knock("tunnel", forge(US.host, US.identity("agent", name)))


def test_tls_07_nothing_of_a_request_but_its_key_reaches_the_certificate() -> None:
    """A CSR that asks to be the administrator, an authority and another host gets its key signed."""
    private = load_private_key(make_key())
    wish = x509.UnrecognizedExtension(
        identity_extension(US.identity("admin")).oid, msgspec.json.encode(US.identity("admin"))
    )
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name.from_rfc4514_string("CN=tport admin,O=editor"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("evil.test")]), critical=False)
        .add_extension(wish, critical=True)
        .sign(private, hashes.SHA256())
    )
    csr = request.public_bytes(serialization.Encoding.PEM).decode()

    chain = issue_host_certificate(
        US.host, public_key_of_csr(csr), US.identity("agent"), now=US.now
    )

    certificate = load_certificate(chain)
    assert certificate.subject.rfc4514_string() == "O=tport.test,CN=tport agent"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert identity_of(
        certificate.public_bytes(serialization.Encoding.DER),
        authorities=US.authorities,
        expected_kinds=["agent"],
        now=US.now,
    ) == US.identity("agent")


@pytest.mark.parametrize("field", ["session", "sid", "app_session"])
def test_tls_08_no_certificate_can_carry_a_session(field: str) -> None:
    """A session id in a certificate would be access by itself: there is no field for one, and a
    certificate that brings one, signed by the right authority, is refused whole."""
    fields = msgspec.to_builtins(US.identity("user", "mallory")) | {field: "5e55"}
    certificate = der(forge(US.user, msgspec.json.encode(fields)))

    assert field not in Identity.__struct_fields__
    with pytest.raises(AccessDenied, match="can't be read"):
        identity_of(certificate, authorities=US.authorities, expected_kinds=["user"], now=US.now)
