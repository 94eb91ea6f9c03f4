"""The operator's certificates: which is shown to whom, and what becomes of those that can't be."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.certs import DAMAGES, damaged, handshake
from tport.engine.errors import ConfigError
from tport.engine.pki.keys import KeyPair, make_key
from tport.engine.proxy.key_pairs import MAX_FILE, FilePair, FilePairs, read_key_pair

NOW = datetime.now(UTC)
CA = trustme.CA()
RSA, ECDSA = trustme.KeyType.RSA, trustme.KeyType.ECDSA


def pair(*names: str, key: trustme.KeyType = ECDSA) -> FilePair:
    return FilePair(pair=issued(*names, key=key), path=f"/etc/tls/{names[0]}.pem", read_at=NOW)


def issued(*names: str, key: trustme.KeyType = ECDSA) -> KeyPair:
    leaf = CA.issue_cert(*names, key_type=key)
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    return KeyPair(key=leaf.private_key_pem.bytes().decode(), chain=chain.decode())


async def shown(pairs: FilePairs, host: str, ciphers: str = "") -> x509.Certificate | None:
    """Return the certificate that a client is shown, whose suites these are."""
    context = await pairs.context_for(host)
    if context is None:
        return None
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    if ciphers:
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        client.set_ciphers(ciphers)
    _, there = handshake(context, client, server_hostname=host)
    der = there.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def leaf(pair: FilePair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.pair.chain.encode())


async def test_exact_comes_before_wildcard_whatever_the_order_and_the_longest_first() -> None:
    wide, narrow = pair("*.proxy.test"), pair("*.lab.proxy.test")
    exact, own = pair("grafana.proxy.test"), pair("proxy.test", "alias.test")
    pairs = FilePairs([wide, narrow, exact, own])

    assert await shown(pairs, "grafana.proxy.test") == leaf(exact)
    assert await shown(pairs, "jupyter.proxy.test") == leaf(wide)
    assert await shown(pairs, "a.lab.proxy.test") == leaf(narrow)
    assert await shown(pairs, "lab.proxy.test") == leaf(wide)
    assert await shown(pairs, "proxy.test") == await shown(pairs, "alias.test") == leaf(own)
    for stranger in ("a.b.proxy.test", "test", "elsewhere.test", "*"):
        assert await shown(pairs, stranger) is None


async def test_a_hundred_names_and_one_are_told_apart_as_three_are() -> None:
    """TLS-11: names in certificates may have any case; past a hundred nothing changes."""
    many = [pair(f"App{number}.Proxy.test") for number in range(101)]
    pairs = FilePairs(many)

    for number in (0, 50, 99, 100):
        assert await shown(pairs, f"app{number}.proxy.test") == leaf(many[number])


async def test_each_client_is_shown_the_kind_of_key_that_it_can_verify() -> None:
    """ECDSA beside RSA for one name, in either order."""
    rsa, ecdsa = pair("proxy.test", key=RSA), pair("proxy.test", key=ECDSA)
    for pairs in (FilePairs([rsa, ecdsa]), FilePairs([ecdsa, rsa])):
        assert await shown(pairs, "proxy.test", "ECDHE-RSA-AES128-GCM-SHA256") == leaf(rsa)
        assert await shown(pairs, "proxy.test", "ECDHE-ECDSA-AES128-GCM-SHA256") == leaf(ecdsa)
        assert {state.key for state in pairs.states("proxy.test")} == {"RSA 2048", "ECDSA P-256"}


async def test_of_two_for_one_name_the_first_is_shown() -> None:
    first, second = pair("proxy.test"), pair("proxy.test")
    pairs = FilePairs([first, second])

    assert await shown(pairs, "proxy.test") == leaf(first)


async def test_when_one_cant_be_used_all_that_were_before_stay() -> None:
    before = pair("proxy.test")
    pairs = FilePairs([before])
    bad = FilePair(pair=KeyPair(key=make_key(), chain=before.pair.chain))
    with pytest.raises(ConfigError):
        pairs.use([pair("grafana.proxy.test"), bad])
    pairs.keep_old("cert.pem: no")

    assert await shown(pairs, "proxy.test") == leaf(before)
    assert await shown(pairs, "grafana.proxy.test") is None
    assert pairs.failures == 1
    assert "not taken: cert.pem: no" in pairs.states("proxy.test")[0].problem

    pairs.use([before])
    assert (pairs.failures, pairs.states("proxy.test")[0].problem) == (1, "")


def test_a_list_can_tell_all_of_each_and_which_serve_nobody() -> None:
    own, idle = pair("proxy.test", "*.proxy.test"), pair("old.test", "older.test")
    pairs = FilePairs([own, idle])

    [state] = pairs.states("grafana.proxy.test")
    assert (state.host, state.source, state.path) == (
        "grafana.proxy.test",
        "file",
        "/etc/tls/proxy.test.pem",
    )
    assert state.names == ("proxy.test", "*.proxy.test")
    assert state.not_after == leaf(own).not_valid_after_utc
    assert pairs.states("elsewhere.test") == []
    [unused] = pairs.idle(["proxy.test", "grafana.proxy.test"])
    assert (unused.host, unused.path) == ("old.test", "/etc/tls/old.test.pem")


# --- Files ----------------------------------------------------------------------------------------


class Files:
    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.pair = issued("proxy.test")
        self.cert.write_text(self.pair.chain)
        self.key.write_text(self.pair.key)

    def read(self) -> FilePair:
        return read_key_pair(self.cert, self.key, now=NOW, authorities=())


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_certificate_and_its_key_are_read(files: Files) -> None:
    read = files.read()

    assert (read.pair, read.path, read.read_at) == (files.pair, str(files.cert), NOW)
    assert files.pair.key not in repr(read)


def test_an_expired_one_is_served_and_told(files: Files) -> None:
    old = CA.issue_cert("proxy.test", not_before=NOW - timedelta(9), not_after=NOW - timedelta(2))
    files.cert.write_bytes(old.cert_chain_pems[0].bytes())
    files.key.write_bytes(old.private_key_pem.bytes())

    read = files.read()

    assert any("expired" in warning for warning in read.warnings)
    assert FilePairs([read]).states("proxy.test")[0].problem == "; ".join(read.warnings)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("no certificate", r"cert\.pem can't be read: no such file"),
        ("no key", r"key\.pem can't be read: no such file"),
        ("a folder", r"key\.pem can't be read: is a directory"),
        ("another's key", r"cert\.pem can't be used with the key .*key\.pem: .*belong together"),
        ("no PEM", r"no private key in PEM form"),
        ("the key twice", r"cert\.pem .*no certificate in PEM form"),
        ("half a certificate", r"no certificate in PEM form"),
        ("empty", r"no certificate in PEM form"),
        ("DER", r"cert\.pem is no PEM file"),
        ("huge", r"cert\.pem is no PEM file"),
        ("encrypted", r"the private key is encrypted"),
    ],
)
def test_what_is_no_pair_is_told_by_its_file(files: Files, wrong: str, said: str) -> None:
    match wrong:
        case "no certificate":
            files.cert.unlink()
        case "no key":
            files.key.unlink()
        case "a folder":
            files.key.unlink()
            files.key.mkdir()
        case "another's key":
            files.key.write_text(make_key())
        case "no PEM":
            files.key.write_text("nonsense")
        case "the key twice":
            files.cert.write_text(files.pair.key)
        case "half a certificate":
            files.cert.write_text(files.pair.chain[:300])
        case "empty":
            files.cert.write_text("")
        case "DER":
            files.cert.write_bytes(ssl.PEM_cert_to_DER_cert(files.pair.chain))
        case "huge":
            os.truncate(files.cert, MAX_FILE + 1)
        case "encrypted":
            files.key.write_bytes(encrypted(files.pair.key))

    with pytest.raises(ConfigError, match=said) as refused:
        files.read()
    assert "PRIVATE" not in str(refused.value)


def encrypted(key: str) -> bytes:
    return serialization.load_pem_private_key(key.encode(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_certificate_is_told_and_ends_nothing(files: Files, damage: str) -> None:
    """Files are read while the proxy runs: what they hold must never be more than a complaint."""
    files.cert.write_text(damaged(files.pair.chain, damage))

    with pytest.raises(ConfigError, match=r"cert\.pem can't be used.*can.t be read"):
        files.read()
