"""An order from the directory to the chain, against a CA in memory; and what CAs say when not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.acme_ca import DIRECTORY, FakeCa, Refusal, b64, thumbprint_of
from tport.engine.pki.acme import AccountKey, check_issued, make_names_csr, renewal_id
from tport.engine.pki.keys import KeyPair, make_key
from tport.engine.proto.acme import (
    MAX_BAD_NONCES,
    Conversation,
    ExternalAccount,
    Pause,
    Request,
    Send,
    Show,
    Step,
    Steps,
    get_directory,
    renewal_info,
    thumbprint,
)
from tport.engine.proto.acme_answers import (
    MAX_ANSWER,
    MAX_RETRY_AFTER,
    Authorization,
    CaProblem,
    Directory,
    Order,
    Problem,
    Response,
    check,
    parse_chain,
    parse_retry_after,
    printable,
    read,
)

T = TypeVar("T")

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = make_key()
NAMES: Sequence[str] = ("tport.example.com",)


@pytest.fixture
def ca() -> FakeCa:
    return FakeCa(lambda: NOW)


class Driver:
    """Does at once whatever a step asks for, and remembers it."""

    def __init__(self, ca: FakeCa) -> None:
        self.ca = ca
        self.steps: list[Step] = []

    def run(self, steps: Steps[T]) -> T:
        reply: Response | None = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                result: T = end.value
                return result
            self.steps.append(step)
            reply = self.ca.answer(step.request) if isinstance(step, Send) else None

    def shown(self) -> list[Show]:
        return [step for step in self.steps if isinstance(step, Show)]

    def paused(self) -> list[float]:
        return [step.seconds for step in self.steps if isinstance(step, Pause)]

    def conversation(self, external: ExternalAccount | None = None) -> Conversation:
        directory = self.run(get_directory(DIRECTORY))
        conversation = Conversation(directory, AccountKey(KEY))
        self.run(conversation.register("alice@example.com", external))
        return conversation

    def order(self, names: Sequence[str] = NAMES, *, replaces: str = "") -> KeyPair:
        key = make_key()
        steps = self.conversation().order(
            names, make_names_csr(key, names), ("tls-alpn-01", "dns-01"), replaces=replaces
        )
        return KeyPair(chain=self.run(steps), key=key)


def test_an_order_ends_in_a_chain_for_our_key_and_names(ca: FakeCa) -> None:
    driver = Driver(ca)

    pair = driver.order()

    leaf = check_issued(pair, NAMES, NOW)
    assert leaf.not_valid_after_utc == NOW + timedelta(days=90)
    assert pair.chain.endswith(ca.root)
    assert "what stands before" not in pair.chain


def test_the_ca_is_told_to_look_only_after_the_challenge_is_shown(ca: FakeCa) -> None:
    driver = Driver(ca)
    driver.order()

    told = [
        number
        for number, step in enumerate(driver.steps)
        if isinstance(step, Send) and "/chall/" in step.request.url
    ]
    [shown] = [number for number, step in enumerate(driver.steps) if isinstance(step, Show)]
    assert len(told) == 1
    assert shown < told[0]


def test_a_challenge_says_the_token_and_the_accounts_thumbprint(ca: FakeCa) -> None:
    driver = Driver(ca)
    driver.order()

    [show] = driver.shown()
    [challenge] = show.challenges
    assert challenge.kind == "tls-alpn-01"
    assert challenge.name == "tport.example.com"
    [jwk] = ca.accounts.values()
    assert challenge.key_authorization == f"{challenge.token}.{thumbprint_of(jwk)}"


def test_a_wildcard_is_proven_by_dns_beside_its_parent(ca: FakeCa) -> None:
    driver = Driver(ca)
    names = ["example.com", "*.example.com"]

    pair = driver.order(names)

    check_issued(pair, names, NOW)
    [show] = driver.shown()
    assert [(one.name, one.kind) for one in show.challenges] == [
        ("example.com", "tls-alpn-01"),
        ("example.com", "dns-01"),
    ]


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_refused_nonces_are_tried_anew(ca: FakeCa, share: float) -> None:
    ca.bad_nonces = share
    for _ in range(20):
        Driver(ca).order()


def test_a_ca_that_refuses_every_nonce_is_left_in_the_end(ca: FakeCa) -> None:
    driver = Driver(ca)
    conversation = driver.conversation()
    ca.bad_nonces = 1.0
    before = len(ca.requests)

    with pytest.raises(CaProblem, match="nonces in a row"):
        driver.run(conversation.order(NAMES, b"", ("tls-alpn-01",)))
    assert len(ca.requests) - before <= MAX_BAD_NONCES + 1


def test_polls_wait_as_long_as_the_ca_asks(ca: FakeCa) -> None:
    ca.looks, ca.retry_after = 2, "7"
    driver = Driver(ca)
    driver.order()

    assert driver.paused()
    assert set(driver.paused()) == {7.0}


def test_polls_of_a_ca_that_names_no_time_grow_slower(ca: FakeCa) -> None:
    ca.looks = 6
    driver = Driver(ca)
    driver.order()

    of_authorization = driver.paused()[:5]
    assert of_authorization == sorted(of_authorization)
    assert of_authorization[0] < 1 < of_authorization[-1]


@pytest.mark.parametrize("retry_after", ["", "86400"])
def test_a_ca_that_never_decides_is_left_after_minutes(ca: FakeCa, retry_after: str) -> None:
    ca.looks, ca.retry_after = 10**6, retry_after
    driver = Driver(ca)

    with pytest.raises(CaProblem, match="took over 300 s") as problem:
        driver.order()
    assert not problem.value.is_refusal
    assert sum(driver.paused()) < 400


def test_a_name_that_is_proven_already_needs_no_challenge(ca: FakeCa) -> None:
    ca.reuses = True
    Driver(ca).order()
    again = Driver(ca)
    check_issued(again.order(), NAMES, NOW)

    assert again.shown() == []


def test_a_failed_validation_is_told_in_the_cas_own_words(ca: FakeCa) -> None:
    ca.judge = lambda _kind, name, _token: {
        "type": "urn:ietf:params:acme:error:connection",
        "detail": f"Connection refused by {name}\x1b[31m",
        "status": 400,
    }

    with pytest.raises(CaProblem) as problem:
        Driver(ca).order()
    assert str(problem.value) == (
        "the CA says of tport.example.com: Connection refused by tport.example.com [31m (connection)"
    )
    assert problem.value.is_refusal
    assert problem.value.kind == "connection"


def test_a_rate_limit_says_for_how_long(ca: FakeCa) -> None:
    ca.refuse = Refusal("rateLimited", "too many certificates", 429, retry_after="7200")

    with pytest.raises(CaProblem, match="too many certificates") as problem:
        Driver(ca).order()
    assert problem.value.kind == "rateLimited"
    assert problem.value.retry_after == 7200


def test_who_is_asked_too_often_may_say_so_without_a_document() -> None:
    with pytest.raises(CaProblem, match="429") as problem:
        check(Response(status=429, at=NOW), "order", 201)
    assert problem.value.is_limit


def test_a_server_error_is_no_refusal(ca: FakeCa) -> None:
    ca.refuse = Refusal("serverInternal", "down for maintenance", 503)

    with pytest.raises(CaProblem, match="down for maintenance") as problem:
        Driver(ca).order()
    assert not problem.value.is_refusal


def test_a_redirect_is_not_followed(ca: FakeCa) -> None:
    steps = get_directory(DIRECTORY)
    next(steps)

    with pytest.raises(CaProblem, match=r"elsewhere.*https://evil"):
        steps.send(Response(status=302, headers={"location": "https://evil.test"}, at=NOW))


def test_without_a_challenge_that_can_be_shown_the_hint_says_what_would_help(ca: FakeCa) -> None:
    ca.kinds = ("http-01",)

    with pytest.raises(CaProblem, match="proven by http-01") as problem:
        Driver(ca).order()
    assert "acme.http_addr" in problem.value.hint


def test_an_account_elsewhere_is_bound_by_its_hmac(ca: FakeCa) -> None:
    ca.hmacs = {"kid-1": b"sixteen bytes..."}
    driver = Driver(ca)

    driver.conversation(ExternalAccount("kid-1", b64(b"sixteen bytes...")))
    assert len(ca.accounts) == 1


def test_a_ca_that_wants_an_account_is_not_asked_without(ca: FakeCa) -> None:
    ca.hmacs = {}

    with pytest.raises(CaProblem) as problem:
        Driver(ca).conversation()
    assert "acme.eab" in problem.value.hint


def test_the_same_key_finds_its_account_again(ca: FakeCa) -> None:
    Driver(ca).order()
    Driver(ca).order()

    assert len(ca.accounts) == 1


def test_after_a_restart_of_the_ca_the_account_is_unknown(ca: FakeCa) -> None:
    driver = Driver(ca)
    conversation = driver.conversation()
    ca.restart()

    with pytest.raises(CaProblem) as problem:
        driver.run(conversation.order(NAMES, b"", ("tls-alpn-01",)))
    assert problem.value.kind == "accountDoesNotExist"

    driver.run(conversation.register("", None))
    csr = make_names_csr(make_key(), NAMES)
    assert driver.run(conversation.order(NAMES, csr, ("tls-alpn-01",)))


def test_a_renewal_says_what_it_replaces_where_the_ca_wants_to_know(ca: FakeCa) -> None:
    first = Driver(ca).order()
    Driver(ca).order(replaces=renewal_id(first.chain))
    assert ca.replaced == []

    ca.window = NOW, NOW + timedelta(days=1)
    Driver(ca).order(replaces=renewal_id(first.chain))
    assert ca.replaced == [renewal_id(first.chain)]


def test_a_ca_that_doesnt_like_what_is_replaced_gets_the_order_without(ca: FakeCa) -> None:
    ca.window = NOW, NOW + timedelta(days=1)
    ca.refuse = Refusal("alreadyReplaced", "replaced before", 409)

    Driver(ca).order(replaces="abc.def")
    assert ca.replaced == []
    assert len(ca.orders_made) == 1


def test_the_cas_window_for_renewal_is_asked_for_by_the_certificates_id(ca: FakeCa) -> None:
    ca.window = NOW + timedelta(days=50), NOW + timedelta(days=52)
    driver = Driver(ca)
    directory = driver.run(get_directory(DIRECTORY))

    info, again = driver.run(renewal_info(directory, "abc.def"))

    assert (info.suggested_window.start, info.suggested_window.end) == ca.window
    assert again == 6 * 3600
    assert ca.requests[-1] == Request(method="GET", url="https://ca.test/renewal/abc.def")


def test_a_window_that_ends_before_it_begins_is_none(ca: FakeCa) -> None:
    ca.window = NOW, NOW - timedelta(days=2)
    driver = Driver(ca)
    directory = driver.run(get_directory(DIRECTORY))

    with pytest.raises(CaProblem, match="ends before"):
        driver.run(renewal_info(directory, "abc.def"))


class Altered(FakeCa):
    """A CA whose answers are others than it meant: `alter` gets each as read from JSON, and headers."""

    def __init__(self, alter: Callable[[dict[str, Any], dict[str, str]], None]) -> None:
        super().__init__(lambda: NOW)
        self._alter = alter

    def answer(self, request: Request) -> Response:
        response = super().answer(request)
        try:
            said = json.loads(response.body)
        except ValueError:
            return response  # a certificate
        headers = dict(response.headers)
        self._alter(said, headers)
        return replace(response, body=json.dumps(said).encode(), headers=headers)


@pytest.mark.parametrize(("what", "name"), [("/acct/", "account"), ("/order/", "order")])
@pytest.mark.parametrize("address", ["", "http://ca.test/1", "/1"])
def test_what_has_no_address_is_not_gone_on_with(what: str, name: str, address: str) -> None:
    """And it is no refusal: a CA that is being mended may be asked again."""

    def alter(_: dict[str, Any], headers: dict[str, str]) -> None:
        if what in headers.get("location", ""):
            headers["location"] = address

    with pytest.raises(CaProblem, match=f"names no address of the {name}") as problem:
        Driver(Altered(alter)).order()

    assert not problem.value.is_refusal


def test_a_name_that_was_not_ordered_is_not_proven() -> None:
    """A CA could have a proxy vouch for a name that somebody else ordered there."""

    def alter(said: dict[str, Any], _: dict[str, str]) -> None:
        if "challenges" in said:
            said["identifier"]["value"] = "victim.example.com"

    driver = Driver(Altered(alter))
    with pytest.raises(CaProblem, match=r"victim\.example\.com.*which we didn't order"):
        driver.order()
    assert driver.shown() == []


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (None, "deactivated"),
        ({"type": "urn:ietf:params:acme:error:caa", "detail": "forbidden by CAA"}, "forbidden by"),
    ],
)
def test_an_authorization_that_is_over_is_told_with_what_the_ca_says_of_it(
    problem: object, said: str
) -> None:
    def alter(answer: dict[str, Any], _: dict[str, str]) -> None:
        if "challenges" in answer:
            answer["status"] = "deactivated"
            answer["challenges"][0]["error"] = problem

    with pytest.raises(CaProblem, match=f"the CA says of {NAMES[0]}: {said}"):
        Driver(Altered(alter)).order()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, "the CA's order is invalid"),
        ({"type": "urn:ietf:params:acme:error:badCSR", "detail": "no"}, "the CA says: no"),
    ],
)
def test_an_order_that_fails_in_the_end_is_told_with_what_the_ca_says_of_it(
    error: object, said: str
) -> None:
    def alter(answer: dict[str, Any], _: dict[str, str]) -> None:
        if answer.get("status") == "valid" and "finalize" in answer:
            answer["status"], answer["error"] = "invalid", error

    with pytest.raises(CaProblem, match=said):
        Driver(Altered(alter)).order()


def test_a_refusal_of_a_renewal_for_another_reason_is_the_answer(ca: FakeCa) -> None:
    ca.window = NOW, NOW + timedelta(days=1)
    ca.refuse = Refusal("rateLimited", "too many certificates", 429)

    with pytest.raises(CaProblem, match="too many certificates"):
        Driver(ca).order(replaces="abc.def")


def test_the_thumbprint_is_the_standards() -> None:
    """The example of RFC 8037 §A.3; the rule is the same for every kind of key."""
    jwk = {"x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kty": "OKP", "crv": "Ed25519"}
    assert thumbprint(jwk) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


DOCUMENTS: Sequence[object] = [
    {"status": "pending", "authorizations": ["https://ca.test/a"], "finalize": "https://ca.test/f"},
    {"status": "ready", "authorizations": [], "finalize": "https://ca.test/f"},
    {"status": "processing", "authorizations": [], "finalize": "https://ca.test/f"},
    {
        "status": "valid",
        "authorizations": [],
        "finalize": "https://ca.test/f",
        "certificate": "https://ca.test/c",
    },
    {"status": "invalid", "authorizations": [], "finalize": "https://ca.test/f", "error": {}},
    {
        "status": "pending",
        "identifier": {"type": "dns", "value": NAMES[0]},
        "challenges": [{"type": "tls-alpn-01", "url": "https://ca.test/ch", "token": "t"}],
    },
    {"status": "valid", "identifier": {"type": "dns", "value": NAMES[0]}},
    {"status": "invalid", "identifier": {"type": "dns", "value": NAMES[0]}, "challenges": [{}]},
    {"type": "urn:ietf:params:acme:error:badNonce"},
    {"type": "urn:ietf:params:acme:error:malformed", "detail": "no", "subproblems": [{}]},
    [],
    "",
]
ANSWERS = st.builds(
    lambda status, document, nonce, location, raw: Response(
        status=status,
        headers={"replay-nonce": nonce, "location": location, "retry-after": "1"},
        body=raw or json.dumps(document).encode(),
        at=NOW,
    ),
    st.sampled_from([200, 200, 200, 201, 201, 204, 302, 400, 403, 429, 500]),
    st.sampled_from(DOCUMENTS),
    st.sampled_from(["n", "n", "n", "", "\n"]),
    st.sampled_from(["https://ca.test/o", "https://ca.test/o", "", "ftp://x"]),
    st.sampled_from(
        [b"", b"", b"\xff", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"]
    ),
)
URLS = Directory(
    new_nonce="https://ca.test/n", new_account="https://ca.test/a", new_order="https://ca.test/o"
)


@settings(max_examples=300)
@given(st.lists(ANSWERS, min_size=1, max_size=30))
def test_whatever_a_ca_answers_an_order_ends_in_a_chain_or_in_words(
    answers: list[Response],
) -> None:
    """And within bounds: the last answer is given for ever."""
    conversation = Conversation(URLS, AccountKey(KEY), "https://ca.test/acct")
    steps = conversation.order(NAMES, b"csr", ("tls-alpn-01",))
    reply: Response | None = None
    given_ = iter(answers)
    last = answers[-1]
    for _ in range(5000):
        try:
            step = steps.send(reply)
        except StopIteration as end:
            said = end.value.strip("\n").partition("\n")[0]
            break
        except CaProblem as problem:
            said = str(problem)
            break
        reply = next(given_, last) if isinstance(step, Send) else None
    else:
        raise AssertionError("it never ends")
    assert said.isprintable()
    assert said


# --- Parsers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("999999999", MAX_RETRY_AFTER),
        ("Sun, 01 Mar 2026 12:01:00 GMT", 60.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sun, 01 Mar 9999 11:00:00 GMT", MAX_RETRY_AFTER),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1e3", None),
        ("١٢", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@given(st.text())
def test_any_retry_after_is_within_bounds(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


WORDS = [
    "status",
    "identifier",
    "challenges",
    "type",
    "url",
    "token",
    "error",
    "detail",
    "authorizations",
    "finalize",
    "certificate",
    "newNonce",
    "newOrder",
    "meta",
    "subproblems",
    "value",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(st.binary() | JSON.map(lambda found: json.dumps(found).encode()), st.integers(100, 599))
def test_any_answer_is_read_or_refused_in_words(body: bytes, status: int) -> None:
    response = Response(status=status, headers={}, body=body, at=NOW)
    for type_ in (Directory, Order, Authorization):
        try:
            found = read(response, type_, "answer", 200)
        except CaProblem as problem:
            said = str(problem)
        else:
            assert isinstance(found, type_)
            said = ""
        assert said.isprintable()
        assert len(said) < 1000


@given(st.binary())
def test_any_chain_is_read_or_refused(body: bytes) -> None:
    try:
        chain = parse_chain(Response(status=200, headers={}, body=body, at=NOW))
    except CaProblem:
        return
    assert x509.load_pem_x509_certificates(chain.encode())


def test_an_answer_over_its_bound_is_not_read() -> None:
    body = b" " * (MAX_ANSWER + 1)
    with pytest.raises(CaProblem, match="has over"):
        read(Response(status=200, headers={}, body=body, at=NOW), Order, "order", 200)


@pytest.mark.parametrize("url", ["http://ca.test/x", "file:///etc/passwd", "https://a b", "//x"])
def test_the_ca_can_send_us_to_https_only(url: str) -> None:
    body = json.dumps({"newNonce": url, "newAccount": url, "newOrder": url}).encode()
    with pytest.raises(CaProblem, match="can't be read"):
        read(Response(status=200, headers={}, body=body, at=NOW), Directory, "directory", 200)


def test_a_token_that_leads_out_of_its_folder_is_none() -> None:
    body = json.dumps(
        {
            "status": "pending",
            "identifier": {"type": "dns", "value": "a.test"},
            "challenges": [{"type": "http-01", "url": "https://c", "token": "../x"}],
        }
    ).encode()
    with pytest.raises(CaProblem):
        read(Response(status=200, headers={}, body=body, at=NOW), Authorization, "x", 200)


def test_subproblems_name_their_hosts() -> None:
    problem = Problem(
        type="urn:ietf:params:acme:error:compound",
        detail="several",
        subproblems=(
            Problem(type="urn:ietf:params:acme:error:caa", detail="CAA forbids it"),
            Problem(type="urn:ietf:params:acme:error:dns"),
        ),
    )
    assert problem.words == "several (compound); CAA forbids it (caa); dns"


@given(st.text())
def test_what_a_ca_says_is_one_line(text: str) -> None:
    assert printable(text).isprintable() or not text
