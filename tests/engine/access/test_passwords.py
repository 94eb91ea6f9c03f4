import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.access import passwords
from tport.engine.access.passwords import (
    DUMMY_PHC,
    check_password_strength,
    hash_password,
    needs_rehash,
    verify_password,
)
from tport.engine.errors import InvalidRequest


def judge(password: str, minimum: int = 15) -> None:
    check_password_strength(password, user="alice", cluster="tport.example.com", minimum=minimum)


@pytest.mark.parametrize(
    "password",
    [
        "gelber Regenschirm im Keller",
        "correct horse staple",
        "ñandú señal óptica",
        "kJ8#mQ2$vL5@nR9!",
        "alice-likes-her-cluster",
        "we treasure old bears",
        "パスワードではない長い文です。はい",
        "x7 " * 3 + "quite different",
    ],
)
def test_length_is_what_counts(password: str) -> None:
    judge(password)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short one", "too short"),
        ("aaaaaaaaaaaaaaaaaaaa", "same few"),
        ("abababababababab", "same few"),
        ("123456789012345", "keyboard"),
        ("qwertyuiopasdfgh", "keyboard"),
        ("poiuytrewqlkjhgf", "keyboard"),
        ("abcdefgh12345678", "keyboard"),
        ("1q2w3e4r5t6y7u8i", "keyboard"),
        ("password1234567", "guessed first"),
        ("Welcome2025!!!!!", "guessed first"),
        ("P@ssw0rd!P@ssw0rd!", "guessed first"),
        ("correcthorsebatterystaple", "guessed first"),
        ("summer-summer-2026", "guessed first"),
        ("alice alice alice", "name"),
        ("AliceExampleCom1", "name"),
        ("tport example password", "name"),
    ],
)
def test_what_guessers_try_first_is_refused_in_words_without_the_password(
    password: str, why: str
) -> None:
    with pytest.raises(InvalidRequest, match=why) as refused:
        judge(password)
    assert password not in str(refused.value) + refused.value.hint


def test_the_minimum_is_the_callers() -> None:
    judge("a decent one", minimum=12)
    with pytest.raises(InvalidRequest, match="15 characters"):
        judge("a decent one")


@given(st.text(max_size=160))
def test_any_text_is_judged(password: str) -> None:
    with contextlib.suppress(InvalidRequest):
        judge(password)


def test_a_password_is_the_same_however_the_keyboard_composes_it() -> None:
    phc = hash_password("Pässwörter für dich")  # precomposed

    assert verify_password(phc, "Pässwörter für dich")  # decomposed


def test_every_character_counts_and_every_hash_has_its_own_salt() -> None:
    long = "x" * 72 + "y" * 20
    phc = hash_password(long)

    assert phc != hash_password(long)
    assert verify_password(phc, long)
    assert not verify_password(phc, long[:-1])
    assert not verify_password(phc, "x" * 72 + "z" * 20)


@pytest.mark.parametrize("phc", ["", "junk", "$argon2id$v=19$m=47104,t=1,p=1$", "$2b$12$abc"])
def test_a_hash_that_cannot_be_read_lets_nobody_in(phc: str) -> None:
    assert not verify_password(phc, "x")


@pytest.mark.parametrize(
    "phc", ["", "$2b$12$abc", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA"]
)
def test_a_hash_of_other_parameters_is_made_anew(phc: str) -> None:
    assert needs_rehash(phc)


def test_the_dummy_costs_what_a_real_hash_costs_and_fits_nothing() -> None:
    assert not needs_rehash(DUMMY_PHC)
    assert not needs_rehash(hash_password("whatever it is"))
    assert len(DUMMY_PHC) == len(hash_password("whatever it is"))
    assert not verify_password(DUMMY_PHC, "")


@pytest.mark.parametrize("password", ["x" * 129, "é" * 300, "\ufdfa" * 20, "x" * 10**6, "\ud800"])
def test_an_endless_password_costs_no_hash(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(passwords, "Argon2id")  # touching it would be a NameError

    with pytest.raises(InvalidRequest):
        hash_password(password)
