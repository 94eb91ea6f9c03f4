from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from msgspec.structs import replace

from tests.certs import DAMAGES, damaged
from tport.engine.config.model import KeyPair
from tport.engine.preflight.certificates import PairFiles, judge_pairs
from tport.engine.preflight.look_machine import read_pair
from tport.engine.preflight.row import Row

NAME = "tport.example.com"
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def root() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def middle(root: trustme.CA) -> trustme.CA:
    return root.create_child_ca()


def pair(
    issuer: trustme.CA, *names: str, chain: Sequence[bytes] = (), expires: datetime | None = None
) -> PairFiles:
    """A certificate; `chain` is what follows it in the file."""
    issued = issuer.issue_cert(*names, not_after=expires)
    leaf = issued.cert_chain_pems[0].bytes()
    return PairFiles(
        cert_file=f"/{names[0]}.pem",
        key_file=f"/{names[0]}.key",
        chain=b"".join((leaf, *chain)),
        key=issued.private_key_pem.bytes(),
    )


def judged(
    *pairs: PairFiles,
    trusted: trustme.CA,
    apps: Sequence[str] = (),
    now: datetime = NOW,
) -> list[Row]:
    authority = x509.load_pem_x509_certificate(trusted.cert_pem.bytes())

    def known_issuer(certificate: x509.Certificate) -> x509.Certificate | None:
        return authority if certificate.issuer == authority.subject else None

    return judge_pairs(pairs, names=[NAME], apps=apps, now=now, known_issuer=known_issuer)


def test_a_whole_chain_for_every_name_is_well(root: trustme.CA, middle: trustme.CA) -> None:
    whole = pair(middle, NAME, f"*.{NAME}", chain=[middle.cert_pem.bytes()])

    row, names = judged(whole, trusted=root)

    assert (row.verdict, names.verdict) == ("ok", "ok")
    assert f"*.{NAME}, {NAME}; " in row.found
    assert row.found.endswith(" days left")


@pytest.mark.parametrize(
    ("break_it", "words", "advice"),
    [
        (lambda good: {"chain": b"", "said": "/x can't be read: gone"}, "can't be read", "let who"),
        (lambda good: {"chain": good.key}, "is no certificate in PEM", "fullchain.pem"),
        (lambda good: {"key": good.chain}, "is no key in PEM, or has a password", "openssl pkey"),
        (
            lambda good: {"key": trustme.CA().issue_cert("a").private_key_pem.bytes()},
            "is not its key",
            "the key that it was made with",
        ),
    ],
)
def test_a_pair_that_cannot_be_shown_is_told(
    root: trustme.CA, break_it: object, words: str, advice: str
) -> None:
    import msgspec

    good = pair(root, NAME, f"*.{NAME}")
    assert callable(break_it)

    row, names = judged(msgspec.structs.replace(good, **break_it(good)), trusted=root)

    assert row.verdict == "problem"
    assert words in row.found
    assert advice in row.advice
    assert names.verdict == "problem"  # what can't be shown covers no name


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_certificate_is_a_row_of_the_table(root: trustme.CA, damage: str) -> None:
    good = pair(root, NAME)
    wrong = damaged(good.chain.decode(), damage).encode()

    row, _ = judged(replace(good, chain=wrong), trusted=root)

    assert row.verdict == "problem"
    assert "can't be read" in row.found


@pytest.mark.parametrize(
    ("days", "verdict", "words"),
    [(60, "ok", "days left"), (10, "problem", "10 days left"), (-1, "problem", "expired on")],
)
def test_the_days_that_are_left_are_told_before_they_are_over(
    root: trustme.CA, days: int, verdict: str, words: str
) -> None:
    ends = NOW + timedelta(days=days, minutes=1)

    row, _ = judged(pair(root, NAME, f"*.{NAME}", expires=ends), trusted=root)

    assert (row.verdict, words in row.found) == (verdict, True)
    assert ("certbot renew" in row.advice) == (verdict == "problem")


def test_a_certificate_of_tomorrow_asks_for_the_clock(root: trustme.CA) -> None:
    row, _ = judged(
        pair(root, NAME, f"*.{NAME}"), trusted=root, now=datetime(1990, 1, 1, tzinfo=UTC)
    )

    assert "is valid only from" in row.found


def test_a_missing_intermediate_is_told(root: trustme.CA, middle: trustme.CA) -> None:
    row, _ = judged(pair(middle, NAME, f"*.{NAME}"), trusted=root)

    assert row.verdict == "problem"
    assert "without who issued that" in row.found
    assert "append the missing certificate" in row.advice


def test_a_chain_in_the_wrong_order_is_told(root: trustme.CA, middle: trustme.CA) -> None:
    swapped = [root.cert_pem.bytes(), middle.cert_pem.bytes()]

    row, _ = judged(pair(middle, NAME, f"*.{NAME}", chain=swapped), trusted=root)

    assert "the chain is broken" in row.found
    assert row.advice.startswith("the order is")


def test_an_authority_that_this_machine_does_not_know_is_told(root: trustme.CA) -> None:
    own = pair(root, NAME, f"*.{NAME}", chain=[root.cert_pem.bytes()])

    row, _ = judged(own, trusted=trustme.CA())

    assert row.verdict == "problem"
    assert "which this machine doesn't trust" in row.found


def test_names_without_a_certificate_are_listed(root: trustme.CA) -> None:
    own, wild = pair(root, NAME), pair(root, f"*.{NAME}")
    shop = "shop.example.org"

    def missing(*pairs: PairFiles, apps: Sequence[str] = ()) -> str:
        row = judged(*pairs, trusted=root, apps=apps)[-1]
        return row.advice.removeprefix("get one that is, as by: certbot certonly ")

    assert missing(own) == f"-d *.{NAME}"
    assert missing(wild) == f"-d {NAME}"
    assert missing(own, wild) == ""
    assert missing(own, wild, apps=[shop, f"a.{NAME}"]) == f"-d {shop}"
    each = pair(root, NAME, f"a.{NAME}")
    assert missing(each, apps=[f"a.{NAME}"]) == ""
    assert missing(each, apps=[f"a.{NAME}", f"b.{NAME}"]) == f"-d *.{NAME}"


def test_a_file_that_is_not_there_is_read_as_such(tmp_path: Path) -> None:
    read = read_pair(KeyPair(key_file=tmp_path / "k", cert_file=tmp_path / "c"))

    assert read.said == f"{tmp_path}/c can't be read: no such file or directory"
