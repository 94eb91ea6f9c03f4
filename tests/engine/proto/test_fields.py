import pytest

from tport.engine.proto.fields import fold, forwardable, is_reserved


@pytest.mark.parametrize("name", [b"X_Forwarded.For", b"x-forwarded-for", b"X~FORWARDED|FOR"])
def test_names_that_some_server_takes_for_one_fold_to_one(name: bytes) -> None:
    assert fold(name) == b"x-forwarded-for"


def test_what_belongs_to_this_hop_stays_on_it() -> None:
    headers = [
        (b"host", b"a"),
        (b"connection", b"close, x-id"),
        (b"x-id", b"1"),
        (b"te", b"trailers"),
        (b"content-length", b"3"),
        (b"accept", b"*/*"),
        (b"x_id", b"2"),
        (b"x.id", b"3"),
    ]
    tokens = frozenset({b"close", b"x-id"})

    assert forwardable(headers, tokens) == [(b"host", b"a"), (b"accept", b"*/*")]
    assert forwardable(headers, tokens, odd_names=True)[2:] == [(b"x_id", b"2"), (b"x.id", b"3")]


@pytest.mark.parametrize(
    "name",
    [
        *("Teleport-Jwt-Assertion", "X-Teleport-Jwt", "Cf-Access-Token", "X-Forwarded-For"),
        *("Forwarded", "X-Real-Ip", "X-Client-Cert", "X-Client-Cert-Dn", "X-Ssl-Client", "Proxy"),
        "Tport-Authorization",
    ],
)
def test_what_tells_an_app_who_asks_is_reserved(name: str) -> None:
    """HTTP-13: in every spelling."""
    assert is_reserved(fold(name.encode()))
    assert is_reserved(fold(name.replace("-", "_").upper().encode()))


@pytest.mark.parametrize("name", [b"accept", b"proxying", b"x-forwarder", b"teleportation"])
def test_other_names_are_free(name: bytes) -> None:
    assert not is_reserved(name)
