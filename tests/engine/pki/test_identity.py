from datetime import timedelta

import msgspec
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from tests.certs import CLUSTER, Cluster, der, forge
from tests.fakes import START
from tport.engine.errors import AccessDenied, InvalidRequest
from tport.engine.pki.authority import issue_host_certificate, new_authority
from tport.engine.pki.identity import _believed, identity_extension, identity_of
from tport.engine.pki.keys import KeyPair, load_private_key, make_key
from tport.engine.types.identity import Identity, IdentityKind

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return Cluster(START)


def identify(cluster: Cluster, pair: KeyPair, *kinds: IdentityKind) -> Identity:
    return identity_of(
        der(pair), authorities=cluster.authorities, expected_kinds=kinds or ("agent",), now=START
    )


@pytest.mark.parametrize("apps", [None, (), ("grafana", "dumper")])
def test_a_certificate_says_what_was_put_into_it(
    cluster: Cluster, apps: tuple[str, ...] | None
) -> None:
    identity = Identity(kind="agent", name="h1", cluster=CLUSTER, apps=apps, hostname="böx")
    key = make_key()
    chain = issue_host_certificate(
        cluster.host, load_private_key(key).public_key(), identity, now=START
    )

    assert identify(cluster, KeyPair(chain=chain, key=key)) == identity


def test_authorities_of_two_generations_are_both_believed(cluster: Cluster) -> None:
    """Their subjects are equal: it is the signature that counts."""
    successor = new_authority("host", CLUSTER, now=START, generation=2)
    both = msgspec.structs.replace(
        cluster.authorities, host=(successor.trusted[0], *cluster.host.trusted)
    )

    for issuer in (cluster.host, successor):
        pair = forge(issuer, cluster.identity("agent"), now=START)
        identity_of(der(pair), authorities=both, expected_kinds=["agent"], now=START)


def test_an_authority_that_is_trusted_no_more_vouches_for_nobody_it_vouched_for(
    cluster: Cluster,
) -> None:
    """Who was believed is remembered by whom we trusted then."""
    pair = forge(cluster.host, cluster.identity("agent"), now=START)
    assert identify(cluster, pair).kind == "agent"

    successor = new_authority("host", CLUSTER, now=START, generation=2)
    rotated = msgspec.structs.replace(cluster.authorities, host=successor.trusted)
    with pytest.raises(AccessDenied, match="no host authority"):
        identity_of(der(pair), authorities=rotated, expected_kinds=["agent"], now=START)


def test_who_was_believed_once_is_believed_no_longer_than_the_certificate_says(
    cluster: Cluster,
) -> None:
    pair = forge(cluster.host, cluster.identity("agent"), end=HOUR, now=START)
    assert identify(cluster, pair).kind == "agent"

    with pytest.raises(AccessDenied, match="expired"):
        identity_of(
            der(pair),
            authorities=cluster.authorities,
            expected_kinds=["agent"],
            now=START + HOUR,
        )


def test_who_was_believed_once_costs_no_second_reading(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each watch asks every second, for each machine."""
    shown = der(forge(cluster.host, cluster.identity("agent"), end=HOUR, now=START))

    def asked(*kinds: IdentityKind, at: timedelta = timedelta(0)) -> Identity:
        return identity_of(
            shown, authorities=cluster.authorities, expected_kinds=kinds, now=START + at
        )

    believed = asked("agent")
    monkeypatch.setattr(x509, "load_der_x509_certificate", _never)

    assert asked("agent", at=HOUR - timedelta(seconds=1)) is believed
    with pytest.raises(AssertionError, match="read"):
        asked("agent", at=HOUR)
    with pytest.raises(AssertionError, match="read"):
        asked("agent", at=timedelta(days=-1))  # before it was valid: the clock was set back
    with pytest.raises(AssertionError, match="read"):
        asked("agent", "proxy")


def _never(_: bytes) -> x509.Certificate:
    raise AssertionError("a certificate was read")


def test_who_was_believed_through_one_door_may_not_come_through_another(cluster: Cluster) -> None:
    pair = forge(cluster.host, cluster.identity("agent"), now=START)
    assert identify(cluster, pair, "agent", "proxy").kind == "agent"

    with pytest.raises(AccessDenied, match="expected a proxy's"):
        identify(cluster, pair, "proxy")


def test_who_was_believed_once_is_believed_no_longer_than_its_authority_is_valid(
    cluster: Cluster,
) -> None:
    pair = forge(cluster.host, cluster.identity("agent"), end=timedelta(days=9999), now=START)
    assert identify(cluster, pair).kind == "agent"

    with pytest.raises(AccessDenied, match="the authority that issued it is valid from"):
        identity_of(
            der(pair),
            authorities=cluster.authorities,
            expected_kinds=["agent"],
            now=START + timedelta(days=3651),
        )


def test_an_authority_that_has_expired_vouches_for_nobody(cluster: Cluster) -> None:
    pair = forge(cluster.host, cluster.identity("agent"), end=timedelta(days=9999), now=START)

    with pytest.raises(AccessDenied, match="the authority that issued it is valid from"):
        identity_of(
            der(pair),
            authorities=cluster.authorities,
            expected_kinds=["agent"],
            now=START + timedelta(days=3651),
        )


def test_an_expired_certificate_opens_nothing_but_its_renewal(cluster: Cluster) -> None:
    expired = forge(cluster.host, cluster.identity("agent"), end=-HOUR / 2, now=START)

    with pytest.raises(AccessDenied, match="expired at 2026-01-01T11:30:00Z"):
        identify(cluster, expired)
    for grace, good in ((HOUR, True), (HOUR / 2, False)):
        try:
            identity_of(
                der(expired),
                authorities=cluster.authorities,
                expected_kinds=["agent"],
                now=START,
                grace=grace,
            )
        except AccessDenied:
            assert not good
        else:
            assert good


def test_one_critical_extension_too_many_and_a_certificate_is_refused(cluster: Cluster) -> None:
    """OpenSSL was told to pass over them: somebody must look."""
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    pair = forge(cluster.host, cluster.identity("agent"), extra=[(unknown, True)], now=START)

    with pytest.raises(AccessDenied, match=r"critical extensions unknown here \(1\.2\.3\.4\)"):
        identify(cluster, pair)


def test_an_identity_that_is_not_critical_is_refused(cluster: Cluster) -> None:
    with pytest.raises(AccessDenied, match="not critical"):
        identify(cluster, forge(cluster.host, cluster.identity("agent"), critical=False, now=START))


def test_a_certificate_for_another_purpose_is_refused(cluster: Cluster) -> None:
    server = forge(
        cluster.host,
        cluster.identity("agent"),
        purposes=[ExtendedKeyUsageOID.SERVER_AUTH],
        now=START,
    )

    with pytest.raises(AccessDenied, match="extended key usage"):
        identify(cluster, server)


def test_an_authoritys_own_certificate_is_nobodys(cluster: Cluster) -> None:
    """TLS-06: it may sign others, and a host may not."""
    own = forge(cluster.host, cluster.identity("agent"), ca=True, now=START)

    with pytest.raises(AccessDenied, match="an authority's own"):
        identify(cluster, own)


@pytest.mark.parametrize("without", [x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage])
def test_a_certificate_that_does_not_say_what_it_is_for_is_refused(
    cluster: Cluster, without: type[x509.ExtensionType]
) -> None:
    bare = forge(cluster.host, cluster.identity("agent"), without=without, now=START)

    with pytest.raises(AccessDenied, match=f"lacks {without.oid._name}"):
        identify(cluster, bare)


def test_a_key_that_may_not_sign_is_no_hosts(cluster: Cluster) -> None:
    silent = forge(cluster.host, cluster.identity("agent"), may_sign=False, now=START)

    with pytest.raises(AccessDenied, match="may not sign"):
        identify(cluster, silent)


def test_a_certificate_of_any_size_is_refused_before_it_is_read(cluster: Cluster) -> None:
    """DOS-03: a genuine one, with more behind it."""
    good = der(forge(cluster.host, cluster.identity("agent"), now=START))

    with pytest.raises(AccessDenied, match="too large"):
        identity_of(
            good + bytes(2**20),
            authorities=cluster.authorities,
            expected_kinds=["agent"],
            now=START,
        )


def test_what_is_remembered_of_certificates_is_bounded(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DOS-05: and what is forgotten is looked at anew."""
    monkeypatch.setattr("tport.engine.pki.identity._MAX_BELIEVED", 3)
    pairs = [forge(cluster.host, cluster.identity("agent"), now=START) for _ in range(8)]

    for pair in [*pairs, *pairs]:
        assert identify(cluster, pair).kind == "agent"
        assert len(_believed) <= 3


def test_of_another_cluster_with_the_same_authority_is_still_of_another(cluster: Cluster) -> None:
    pair = forge(cluster.host, Identity(kind="agent", name="h", cluster="other"), now=START)

    with pytest.raises(AccessDenied, match="of cluster 'other'"):
        identify(cluster, pair)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"agent",
        b"\xff",
        b"[]",
        b'{"kind":"root","name":"a","cluster":"tport.test"}',
        b'{"kind":"agent","name":"a"}',
        b'{"kind":"agent","name":1,"cluster":"tport.test"}',
        b'{"kind":"agent","name":"a","cluster":"tport.test","apps":"grafana"}',
        b'{"kind":"agent","name":"a","cluster":"tport.test","only_on_mondays":true}',
    ],
)
def test_an_identity_that_is_not_understood_whole_is_refused(
    cluster: Cluster, value: bytes
) -> None:
    with pytest.raises(AccessDenied, match="can't be read"):
        identify(cluster, forge(cluster.host, value, now=START))


def test_a_certificate_without_an_identity_is_nobodys(cluster: Cluster) -> None:
    with pytest.raises(AccessDenied, match="holds no tport identity"):
        identify(cluster, forge(cluster.host, None, now=START))


@given(st.binary(max_size=300))
def test_whatever_else_comes_as_a_certificate_is_refused(data: bytes) -> None:
    authorities = THEIRS.authorities
    with pytest.raises(AccessDenied):
        identity_of(data, authorities=authorities, expected_kinds=["agent"], now=START)


@pytest.mark.parametrize("change", [1, 128])
@pytest.mark.parametrize("at", range(24))  # the version and the serial number are among them
def test_a_certificate_changed_at_its_front_is_refused(at: int, change: int) -> None:
    """Unknown versions and negative serial numbers, too, are refused and not a traceback."""
    changed = bytearray(GOOD)
    changed[at] ^= change
    with pytest.raises(AccessDenied):
        identity_of(
            bytes(changed), authorities=THEIRS.authorities, expected_kinds=["agent"], now=START
        )


@given(st.data())
def test_a_certificate_changed_in_any_byte_is_refused(data: st.DataObject) -> None:
    good = bytearray(GOOD)
    good[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(AccessDenied):
        identity_of(
            bytes(good),
            authorities=THEIRS.authorities,
            expected_kinds=["agent"],
            now=START,
        )


def test_unused_bits_that_are_claimed_of_a_signature_are_refused() -> None:
    """Where its last bits are zero anyhow a lenient reader finds the same signature in other bytes."""
    while True:
        good = der(forge(THEIRS.host, THEIRS.identity("agent"), now=START))
        signature = x509.load_der_x509_certificate(good).signature
        if signature[-1] & 1 == 0:
            break
    changed = bytearray(good)
    changed[-len(signature) - 1] = 1

    with pytest.raises(AccessDenied):
        identity_of(
            bytes(changed), authorities=THEIRS.authorities, expected_kinds=["agent"], now=START
        )


THEIRS = Cluster(START)  # hypothesis and fixtures don't mix well
GOOD = der(forge(THEIRS.host, THEIRS.identity("agent"), now=START))


@pytest.mark.parametrize("bad", ["", "a\x00b", "a\nb", "a\x7fb", "a\u202eb", "a\u2028b", "x" * 256])
def test_names_that_could_mislead_a_reader_are_refused(bad: str) -> None:
    with pytest.raises(InvalidRequest):
        identity_extension(Identity(kind="agent", name=bad, cluster=CLUSTER))
