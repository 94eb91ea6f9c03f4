import os
import ssl
import sys
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from tests.certs import Cluster, der, handshake
from tport.engine.errors import ConfigError
from tport.engine.pki.authority import issue_web_certificate
from tport.engine.pki.contexts import (
    CIPHERS,
    GROUPS,
    TICKET_KEYS,
    auth_client_context,
    auth_server_context,
    browser_context,
    https_context,
    restrict_groups,
    share_tickets,
    tunnel_client_context,
    tunnel_server_context,
)
from tport.engine.pki.keys import KeyPair, load_private_key, make_key


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster()


def web_pair(cluster: Cluster, host: str = "proxy.test") -> KeyPair:
    key = make_key()
    public = load_private_key(key).public_key()
    return KeyPair(chain=issue_web_certificate(cluster.web, public, host, now=cluster.now), key=key)


def old_client(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = version
    return context


def test_a_browser_that_trusts_the_web_authority_gets_in(cluster: Cluster) -> None:
    client = https_context(authorities=cluster.web.trusted)
    client.verify_flags |= ssl.VERIFY_X509_STRICT

    server, _ = handshake(browser_context(web_pair(cluster)), client, server_hostname="proxy.test")

    assert server.selected_alpn_protocol() == "http/1.1"
    assert server.version() == "TLSv1.3"


def test_a_browser_is_never_asked_for_a_certificate(cluster: Cluster, tmp_path: Path) -> None:
    """It would show one: whoever is asked has to choose in a dialogue."""
    client = https_context(authorities=cluster.web.trusted)
    pair = cluster.pair("agent")
    (tmp_path / "pair.pem").write_text(pair.chain + pair.key)
    client.load_cert_chain(tmp_path / "pair.pem")

    server, _ = handshake(browser_context(web_pair(cluster)), client, server_hostname="proxy.test")

    assert server.getpeercert(binary_form=True) is None


def test_a_name_the_certificate_is_not_for_is_refused(cluster: Cluster) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(
            browser_context(web_pair(cluster)),
            https_context(authorities=cluster.web.trusted),
            server_hostname="grafana.proxy.test",
        )


def test_browsers_may_resume_and_get_one_ticket(cluster: Cluster) -> None:
    server = browser_context(web_pair(cluster))
    client = https_context(authorities=cluster.web.trusted)

    _, first = handshake(server, client, server_hostname="proxy.test")
    _, second = handshake(server, client, server_hostname="proxy.test", session=first.session)

    assert second.session_reused
    assert server.num_tickets == 1


@pytest.mark.skipif(
    not share_tickets(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), bytes(TICKET_KEYS)),
    reason="libssl is built into this Python: its tickets' keys can't be set",
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_one_process_began_another_resumes_when_they_share_keys(
    cluster: Cluster, version: ssl.TLSVersion
) -> None:
    """Though each has a leaf of its own."""
    one, another = browser_context(web_pair(cluster)), browser_context(web_pair(cluster))
    client = old_client(version)
    for keys in (bytes(TICKET_KEYS), bytes(range(TICKET_KEYS))):
        assert share_tickets(one, keys)
        _, first = handshake(one, client)
        _, second = handshake(another, client, session=first.session)
        assert not second.session_reused

        assert share_tickets(another, keys)
        _, third = handshake(another, client, session=first.session)
        assert third.session_reused


def test_keys_of_another_size_are_not_taken(cluster: Cluster) -> None:
    assert not share_tickets(browser_context(web_pair(cluster)), bytes(48))


@pytest.mark.parametrize("authorities", [[], [""], ["no certificate"]])
def test_no_context_is_made_that_has_nobody_to_verify_by(
    cluster: Cluster, authorities: list[str]
) -> None:
    """TLS-05."""
    with pytest.raises(ConfigError, match="authorities' certificates can't be read"):
        tunnel_server_context(cluster.pair("proxy"), authorities)


def test_where_libssl_cannot_be_asked_that_is_said_and_connections_are_made_all_the_same(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a Python into which OpenSSL is built: `_ssl` is no file there."""
    monkeypatch.delattr(sys.modules["_ssl"], "__file__")
    server = browser_context(web_pair(cluster))

    assert not restrict_groups(server)
    assert not share_tickets(server, os.urandom(TICKET_KEYS))
    handshake(server, https_context(insecure=True), server_hostname="proxy.test")


class ContextOfPython315(ssl.SSLContext):
    """Has a word for groups; knows these."""

    knows = ""
    asked: tuple[str, ...] = ()

    def set_groups(self, groups: str) -> None:
        self.asked += (groups,)
        if groups != self.knows:
            raise ssl.SSLError("unknown group")


@pytest.mark.parametrize("knows", GROUPS)
def test_a_python_that_has_a_word_for_groups_is_asked_for_the_best_ones_first(knows: str) -> None:
    """TLS-10: older libraries lack the first list's newest group."""
    context = ContextOfPython315(ssl.PROTOCOL_TLS_SERVER)
    context.knows = knows

    assert restrict_groups(context)
    assert context.asked == GROUPS[: GROUPS.index(knows) + 1]


def test_a_python_that_knows_no_group_of_ours_makes_no_context() -> None:
    """TLS-10: rather than one with other groups."""
    with pytest.raises(ssl.SSLError):
        restrict_groups(ContextOfPython315(ssl.PROTOCOL_TLS_SERVER))


def test_an_application_is_verified_unless_its_definition_says_otherwise(cluster: Cluster) -> None:
    """With the system's authorities, ours is unknown."""
    server = browser_context(web_pair(cluster))

    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, https_context(), server_hostname="proxy.test")
    handshake(server, https_context(insecure=True), server_hostname="whatever.test")


def test_a_browser_s_trust_is_the_system_s_and_what_was_added(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more: without `and_system` the added authorities are all."""
    system = trustme.CA()
    system.cert_pem.write_to_path(str(tmp_path / "system.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    leaf = system.issue_cert("proxy.test")
    theirs = KeyPair(
        chain="".join(blob.bytes().decode() for blob in leaf.cert_chain_pems),
        key=leaf.private_key_pem.bytes().decode(),
    )
    both = https_context(authorities=cluster.web.trusted, and_system=True)
    ours = https_context(authorities=cluster.web.trusted)

    handshake(browser_context(web_pair(cluster)), both, server_hostname="proxy.test")
    handshake(browser_context(theirs), both, server_hostname="proxy.test")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(browser_context(theirs), ours, server_hostname="proxy.test")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(browser_context(theirs), both, server_hostname="other.test")


def test_certificates_from_elsewhere_serve_browsers_too() -> None:
    """An RSA certificate with an intermediate, as operators have in files."""
    root = trustme.CA(key_type=trustme.KeyType.RSA)
    leaf = root.create_child_ca().issue_cert("proxy.test", key_type=trustme.KeyType.RSA)
    pair = KeyPair(
        chain="".join(blob.bytes().decode() for blob in leaf.cert_chain_pems),
        key=leaf.private_key_pem.bytes().decode(),
    )

    handshake(
        browser_context(pair),
        https_context(authorities=[root.cert_pem.bytes().decode()]),
        server_hostname="proxy.test",
    )


def test_a_host_certificate_with_its_critical_extension_passes_on_both_sides(
    cluster: Cluster,
) -> None:
    trusted = cluster.host.trusted
    agent, proxy, auth = (cluster.pair(kind) for kind in ("agent", "proxy", "auth"))

    tunnel = handshake(tunnel_server_context(proxy, trusted), tunnel_client_context(agent, trusted))
    call = handshake(auth_server_context(auth, trusted), auth_client_context(proxy, trusted))
    join = handshake(auth_server_context(auth, trusted), auth_client_context(None, trusted))

    assert tunnel[0].getpeercert(binary_form=True) == der(agent)
    assert tunnel[1].getpeercert(binary_form=True) == der(proxy)
    assert call[0].getpeercert(binary_form=True) == der(proxy)
    assert join[0].getpeercert(binary_form=True) is None
    assert tunnel[0].selected_alpn_protocol() == "tport-tunnel/1"
    assert join[0].selected_alpn_protocol() == "tport-auth/1"
    assert {tunnel[0].version(), call[0].version()} == {"TLSv1.3"}


def test_a_context_of_openssl_s_own_refuses_a_host_certificate(cluster: Cluster) -> None:
    """The extension is critical so that who doesn't know it can't mistake it: this shows it."""
    plain = https_context(authorities=cluster.host.trusted)
    plain.check_hostname = False
    server = tunnel_server_context(cluster.pair("proxy"), cluster.host.trusted)
    server.verify_mode = ssl.CERT_NONE

    with pytest.raises(ssl.SSLCertVerificationError, match="unhandled critical extension"):
        handshake(server, plain)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_browsers_get_tls_1_2_with_the_six_suites_or_tls_1_3(
    cluster: Cluster, version: ssl.TLSVersion
) -> None:
    context = browser_context(web_pair(cluster))
    offered = {cipher["name"] for cipher in context.get_ciphers()}

    handshake(context, old_client(version))

    assert {name for name in offered if not name.startswith("TLS_")} == set(CIPHERS.split(":"))
    assert len(CIPHERS.split(":")) == 6
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert not context.options & ssl.OP_CIPHER_SERVER_PREFERENCE


def test_the_links_between_our_programs_speak_nothing_below_tls_1_3(cluster: Cluster) -> None:
    server = auth_server_context(cluster.pair("auth"), cluster.host.trusted)

    with pytest.raises(ssl.SSLError):
        handshake(server, old_client(ssl.TLSVersion.TLSv1_2))


@pytest.mark.skipif(
    not restrict_groups(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)),
    reason="libssl is built into this Python: its groups can't be set",
)
@pytest.mark.parametrize(
    ("group", "welcome"), [("prime256v1", True), ("secp384r1", True), ("secp521r1", False)]
)
def test_only_the_groups_of_the_profile_are_spoken(
    cluster: Cluster, group: str, welcome: bool
) -> None:
    server, client = browser_context(web_pair(cluster)), old_client(ssl.TLSVersion.TLSv1_3)
    client.set_ecdh_curve(group)

    if welcome:
        handshake(server, client)
    else:
        with pytest.raises(ssl.SSLError):
            handshake(server, client)


def test_key_and_certificate_of_two_pairs_are_refused(cluster: Cluster) -> None:
    wrong = KeyPair(chain=web_pair(cluster).chain, key=make_key())

    with pytest.raises(ConfigError, match="don't belong together"):
        browser_context(wrong)


def test_an_encrypted_key_is_an_error_and_never_a_question_on_the_terminal(
    cluster: Cluster,
) -> None:
    pair = web_pair(cluster)
    encrypted = load_private_key(pair.key).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )

    with pytest.raises(ConfigError, match="encrypted"):
        browser_context(KeyPair(chain=pair.chain, key=encrypted.decode()))


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_no_key_is_left_lying_about(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    if platform == "linux" and sys.platform != "linux":
        pytest.skip("memory files are Linux's")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "platform", platform)
    descriptors = len(os.listdir("/proc/self/fd")) if platform == "linux" else 0

    browser_context(web_pair(cluster))

    assert list(tmp_path.iterdir()) == []
    if platform == "linux":
        assert len(os.listdir("/proc/self/fd")) == descriptors
