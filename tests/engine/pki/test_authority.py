import ssl
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.certs import CLUSTER, Cluster, handshake
from tests.fakes import START
from tport.engine.errors import AccessDenied, InvalidRequest
from tport.engine.pki.authority import (
    Authority,
    AuthorityKind,
    bundle_pin,
    check_bundle,
    is_current,
    issue_admin_certificate,
    issue_host_certificate,
    issue_web_certificate,
    new_authority,
    permits,
)
from tport.engine.pki.contexts import browser_context, https_context
from tport.engine.pki.keys import KeyPair, PublicKey, load_certificate, load_private_key, make_key
from tport.engine.types.identity import Identity, IdentityKind


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster(START)


@pytest.fixture(scope="module")
def public_key() -> PublicKey:
    return load_private_key(make_key()).public_key()


def verify(authority: Authority, leaf: str, host: str) -> None:
    """Verify as Go, rustls and Chromium would: cryptography's webpki profile is that strict."""
    store = verification.Store([authority.certificate])
    verifier = (
        verification.PolicyBuilder()
        .store(store)
        .time(START)
        .build_server_verifier(x509.DNSName(host))
    )
    verifier.verify(load_certificate(leaf), [])


@pytest.mark.parametrize("host", ["proxy.test", "grafana.proxy.test", "a.b.proxy.test"])
def test_a_web_certificate_satisfies_a_strict_verifier(
    cluster: Cluster, public_key: PublicKey, host: str
) -> None:
    leaf = issue_web_certificate(cluster.web, public_key, host, now=START)

    verify(cluster.web, leaf, host)
    with pytest.raises(verification.VerificationError):
        verify(cluster.web, leaf, f"x.{host}")


def test_a_web_certificate_says_what_browsers_ask_for(
    cluster: Cluster, public_key: PublicKey
) -> None:
    leaf = load_certificate(issue_web_certificate(cluster.web, public_key, "proxy.test", now=START))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value

    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc < timedelta(days=366)
    assert leaf.not_valid_before_utc < START
    assert not names.critical
    assert names.value.get_values_for_type(x509.DNSName) == ["proxy.test"]
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_a_host_too_long_for_a_subject_is_named_in_a_critical_extension(
    cluster: Cluster, public_key: PublicKey
) -> None:
    host = f"{'a' * 63}.proxy.test"
    leaf = issue_web_certificate(cluster.web, public_key, host, now=START)

    verify(cluster.web, leaf, host)
    certificate = load_certificate(leaf)
    assert not certificate.subject.rdns
    assert certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


@pytest.mark.parametrize(
    "host",
    ["example.com", "evilproxy.test", "test", "*.test", "*", "*.*.proxy.test", "Proxy.test", "proxy.test.", "",
     "a..proxy.test", "-a.proxy.test", "a_b.proxy.test", "127.0.0.1", "::1", "proxy.test\n"],
)  # fmt: skip
def test_the_web_authority_signs_for_nothing_but_the_proxys_names(
    cluster: Cluster, public_key: PublicKey, host: str
) -> None:
    assert not permits(cluster.web.trusted[0], host)
    with pytest.raises(InvalidRequest):
        issue_web_certificate(cluster.web, public_key, host, now=START)


def test_one_certificate_may_stand_for_the_names_that_nobody_serves(
    cluster: Cluster, public_key: PublicKey
) -> None:
    leaf = issue_web_certificate(cluster.web, public_key, "*.proxy.test", now=START)

    verify(cluster.web, leaf, "grafna.proxy.test")


@pytest.mark.parametrize("names", [["proxy.test"], ["192.0.2.7"], ["192.0.2.7", "proxy.test"]])
def test_who_trusts_the_web_authority_need_not_fear_it_for_other_names(
    names: list[str], public_key: PublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even with its key stolen: verifiers keep to the constraints in its own certificate."""
    web = new_authority("web", CLUSTER, now=START, names=names)
    monkeypatch.setattr("tport.engine.pki.authority.permits", lambda *_: True)
    leaf = issue_web_certificate(web, public_key, "example.com", now=START)

    with pytest.raises(verification.VerificationError):
        verify(web, leaf, "example.com")


def test_a_proxy_known_by_an_address_gets_certificates_for_it(public_key: PublicKey) -> None:
    authority = new_authority("web", CLUSTER, now=START, names=["192.0.2.7", "proxy.test"])

    leaf = issue_web_certificate(authority, public_key, "192.0.2.7", now=START)

    store = verification.Store([authority.certificate])
    builder = verification.PolicyBuilder().store(store).time(START)
    address = load_certificate(leaf).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    builder.build_server_verifier(address.value[0]).verify(load_certificate(leaf), [])
    assert not permits(authority.trusted[0], "192.0.2.8")
    assert permits(new_authority("web", CLUSTER, now=START, names=["[::1]"]).trusted[0], "[::1]")


@pytest.mark.parametrize("names", [["192.0.2.7"], ["192.0.2.7", "proxy.test"], ["::1"]])
def test_openssl_takes_a_certificate_for_an_address(names: list[str]) -> None:
    """It holds a subject that could be a host's name against the constraints on those."""
    authority = new_authority("web", CLUSTER, now=datetime.now(UTC), names=names)
    key = make_key()
    public_key = load_private_key(key).public_key()
    chain = issue_web_certificate(authority, public_key, names[0], now=datetime.now(UTC))
    client = https_context(authorities=authority.trusted)
    client.verify_flags |= ssl.VERIFY_X509_STRICT

    handshake(browser_context(KeyPair(chain=chain, key=key)), client, server_hostname=names[0])


@pytest.mark.parametrize("names", [[], ["*.proxy.test"], ["proxy test"], ["https://proxy.test"]])
def test_a_web_authority_needs_names_that_are_names(names: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        new_authority("web", CLUSTER, now=START, names=names)


@pytest.mark.parametrize("kind", ["host", "user", "web"])
def test_an_authority_can_make_no_other_authority(cluster: Cluster, kind: str) -> None:
    certificate = getattr(cluster, kind).certificate
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)

    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign) == (True, True)
    assert not usage.value.digital_signature
    assert certificate.subject.rfc4514_string() == f"O={CLUSTER},CN=tport {kind} CA"


def test_an_authority_survives_being_stored(cluster: Cluster) -> None:
    stored = msgspec.json.encode(cluster.host)

    assert msgspec.json.decode(stored, type=Authority) == cluster.host


def test_an_authority_does_not_show_its_key(cluster: Cluster) -> None:
    assert "PRIVATE" not in repr(cluster.host)


@pytest.mark.parametrize("kind", ["user", "admin"])
def test_no_host_certificate_makes_anybody_a_person(
    cluster: Cluster, public_key: PublicKey, kind: IdentityKind
) -> None:
    identity = Identity(kind=kind, name="a", cluster=CLUSTER)

    with pytest.raises(InvalidRequest):
        issue_host_certificate(cluster.host, public_key, identity, now=START)


@pytest.mark.parametrize("kind", ["user", "web", "jwt"])
def test_only_the_host_authority_issues_host_certificates(
    cluster: Cluster, public_key: PublicKey, kind: AuthorityKind
) -> None:
    with pytest.raises(InvalidRequest):
        issue_host_certificate(
            getattr(cluster, kind), public_key, cluster.identity("agent"), now=START
        )


@pytest.mark.parametrize("kind", ["host", "user"])
def test_only_the_web_authority_issues_certificates_for_browsers(
    cluster: Cluster, public_key: PublicKey, kind: str
) -> None:
    """TLS-06: a host's authority is bound to no names, so what it signed would be good for any."""
    with pytest.raises(InvalidRequest, match=f"the {kind} authority issues nothing for browsers"):
        issue_web_certificate(getattr(cluster, kind), public_key, "proxy.test", now=cluster.now)


def test_no_certificate_outlives_its_authority(cluster: Cluster, public_key: PublicKey) -> None:
    leaf = issue_admin_certificate(
        cluster.host, public_key, name="root", now=START, ttl=timedelta(days=100_000)
    )

    end = cluster.host.certificate.not_valid_after_utc
    assert load_certificate(leaf).not_valid_after_utc == end


def test_the_pin_of_a_bundle_is_the_same_in_any_order_and_of_no_other_bundle() -> None:
    """AG-16: what a proxy shows at a first join is proved by the pin, lists and all."""
    a, b, c = (new_authority("host", CLUSTER, now=START).trusted[0] for _ in range(3))
    pin = bundle_pin([a, b], [c])

    assert pin == bundle_pin([b, a], [c])
    assert (
        len({pin, bundle_pin([a], [b, c]), bundle_pin([c], [a, b]), bundle_pin([a, b, c], [])}) == 4
    )
    check_bundle(pin, [b, a], [c])
    check_bundle(f"sha256:{pin.upper()}", [a, b], [c])
    with pytest.raises(AccessDenied, match="somebody sits between"):
        check_bundle(pin, [c], [a, b])


@pytest.mark.parametrize("pin", ["", "sha256:", "ab" * 31, "zz" * 32, "ab" * 32 + "\n1"])
def test_a_malformed_pin_is_an_error_and_no_match(cluster: Cluster, pin: str) -> None:
    """AG-16: never a pin that checks nothing."""
    with pytest.raises(InvalidRequest):
        check_bundle(pin, cluster.host.trusted, cluster.web.trusted)


def test_serial_numbers_are_random(cluster: Cluster, public_key: PublicKey) -> None:
    leaves = {
        load_certificate(
            issue_web_certificate(cluster.web, public_key, "proxy.test", now=START)
        ).serial_number
        for _ in range(4)
    }

    assert len(leaves) == 4
    assert min(leaves) > 2**64


def test_a_certificate_is_pem_and_nothing_else(cluster: Cluster) -> None:
    pem = cluster.host.trusted[0]

    assert load_certificate(pem).public_bytes(Encoding.PEM).decode() == pem


@pytest.mark.parametrize(
    ("passed", "current"),
    [
        (timedelta(0), True),
        (timedelta(hours=11), True),
        (timedelta(hours=12), False),
        (timedelta(minutes=-59), True),
        (timedelta(minutes=-61), False),  # it is not valid yet by that clock
        (timedelta(days=-365), False),
    ],
    ids=str,
)
def test_a_certificate_is_made_anew_at_its_time_and_for_a_clock_that_was_set_before_it(
    passed: timedelta, *, current: bool
) -> None:
    """R-13: else who made it by a clock that was wrong would show it until half its life is over."""
    made = datetime(2026, 1, 1, tzinfo=UTC)

    assert is_current(made, made + passed, until=timedelta(hours=12)) is current
