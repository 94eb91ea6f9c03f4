"""What looks like a secret is not in a bundle, whoever wrote it into the log."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from tport.engine.bundle.redact import GONE, redacted, without_known

CANARY = "canary-of-a-secret"
RANDOM = hashlib.sha256(b"what is random in earnest").digest()  # the same in each process
URLSAFE = base64.urlsafe_b64encode(RANDOM).decode().rstrip("=")


@pytest.mark.parametrize(
    "line",
    [
        f"GET https://user:{CANARY}@internal/x",
        f"/.tport/auth?code={CANARY}&state=x",
        f"authorization: Bearer {CANARY}",
        f"Authorization: Basic {CANARY}",
        f'{{"password": "{CANARY}"}}',
        f'{{"password": "a walrus {CANARY}"}}',
        f'{{"password": "a \\"walrus\\" {CANARY}", "x": 1}}',
        f"password: 'a walrus {CANARY}'",
        f'Cookie: a=b; c=d, e="{CANARY}"',
        f"Cookie: a=b; session={CANARY}",
        f"Set-Cookie: a=b; Path=/; session={CANARY}",
        f"DB_PASSWORD={CANARY}",
        f"x-api-key: {CANARY}",
        f"Cookie: session={CANARY}",
        f"auth_token: {CANARY}",
        f"token={CANARY}",
        f"-----BEGIN EC PRIVATE KEY-----\n{CANARY}\n-----END EC PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{CANARY}\nand cut off",
    ],
)
def test_what_is_called_a_secret_goes(line: str) -> None:
    assert CANARY not in redacted(line)
    assert GONE in redacted(line)


@pytest.mark.parametrize(
    "secret",
    [
        f"tport_{URLSAFE}",
        URLSAFE,
        RANDOM.hex(),
        RANDOM.hex()[:32],
        base64.b64encode(RANDOM).decode(),
        f"{RANDOM.hex()[:32]}.{RANDOM.hex()}",  # a join token with its pin
    ],
)
def test_what_has_the_form_of_ours_goes_wherever_it_is(secret: str) -> None:
    for line in (secret, f"it is {secret}.", f'"{secret}"', f"x={secret};"):
        assert not any(part in redacted(line) for part in secret.split("."))


@pytest.mark.parametrize(
    "line",
    [
        "tport: warning: grafana: an answer was cut short: it closed (request 3f2a91bc00aa77de)",
        "tport: tunnel of web-1 (192.0.2.7) is up: grafana, jupyter",
        "tport: joined cluster example.com as 5b66d166-8561-4f85-8fb7-7fad6e08cf21",
        "certificates are not taken anew: /etc/tport/tls/example.com/fullchain.pem:1: no PEM",
    ],
)
def test_what_helps_stays(line: str) -> None:
    assert redacted(line) == line


def test_known_secrets_go_whatever_they_look_like_and_short_ones_redact_no_words() -> None:
    assert without_known("a walrus paints", {"walrus"}) == f"a {GONE} paints"
    assert without_known("walrus-paints-doors", {"walrus-paints", "walrus"}) == f"{GONE}-doors"
    assert without_known("a walrus paints", {"a"}) == "a walrus paints"


@pytest.mark.parametrize(
    "secret", ["stra\xdfe-geheim", 'a "walrus" paints', "C:\\walrus\\key", "\U0001f9ad-seal"]
)
def test_known_secrets_go_from_what_is_json_too(secret: str) -> None:
    """There they are escaped: the log may be JSON, and most files of a bundle are."""
    line = json.dumps({"msg": f"it is {secret}, and {secret}"})

    assert without_known(line, {secret}) == f'{{"msg": "it is {GONE}, and {GONE}"}}'
    assert without_known(f"it is {secret}", {secret}) == f"it is {GONE}"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit", ["a-", "token", "?", "a/", "://", "cookie-", "password:'", "-----BEGIN "]
)
def test_no_line_of_a_log_makes_it_endless(unit: str) -> None:
    """Strangers write some of what is in a log; half a megabyte of it is looked through."""
    redacted(unit * (512 * 1024 // len(unit)))
