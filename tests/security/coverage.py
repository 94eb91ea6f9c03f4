"""Which tests prove which promise of `docs/security.md`; the table there is written by this.

    python -m tests.security.coverage        write the table anew

A test belongs to an ID when its name (`test_web_06_…`) or its docstring (`WEB-06`) says so.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- written by tests/security/coverage.py -->\n", "<!-- until here -->\n"

_AREAS = ("TLS", "HTTP", "WEB", "AZ", "AUTH", "AG", "DOS", "OPS")
_IN_NAME = re.compile(rf"_({'|'.join(_AREAS).lower()})_?(\d\d)_")
_IN_TEXT = re.compile(rf"\b({'|'.join(_AREAS)})-(\d\d)\b")
# Files of tests whose requests go through a real proxy, tunnel and agent.
WHOLE = re.compile(r"security/test_proxy_|e2e/")

# ID → how grave it is where this does not hold (0: somebody else's access; 1: high; 2: medium), and
# what holds.
PROMISES: Mapping[str, tuple[int, str]] = {
    "TLS-01": (0, "A tunnel needs a client certificate, whatever the SNI says"),
    "TLS-02": (0, "No connection that carries an identity is resumed"),
    "TLS-03": (0, "What Host asks for is what SNI asked for, else 421"),
    "TLS-04": (1, "One port, many protocols, and none taken for another"),
    "TLS-05": (0, "Without authorities to verify by nothing starts"),
    "TLS-06": (0, "Each door opens for its own kind of certificate"),
    "TLS-07": (0, "A name is never read as more than a name"),
    "TLS-08": (0, "Knowing a session's id opens nothing"),
    "TLS-09": (1, "No connection outlives its certificate"),
    "TLS-10": (2, "No old version, no weak suite or group, no renegotiation, no compression"),
    "TLS-11": (0, "Each spelling of a name is the same name"),
    "TLS-12": (1, "Who a client is, nobody says but a load balancer that was named"),
    "TLS-13": (1, "What has to do with ACME opens nothing and costs nothing"),
    "HTTP-01": (0, "Content-Length and Transfer-Encoding exclude each other"),
    "HTTP-02": (0, "Content-Length has one form"),
    "HTTP-03": (0, "Lines and header names have one form"),
    "HTTP-04": (0, "Chunks have one form; trailers go no further"),
    "HTTP-05": (0, "Transfer-Encoding is `chunked`, in HTTP/1.1, once"),
    "HTTP-06": (1, "Method and target have one form"),
    "HTTP-07": (0, "Host is given once, and is no input to what the application is told"),
    "HTTP-08": (0, "Nothing is upgraded but WebSockets"),
    "HTTP-09": (0, "What follows an upgrade that did not happen is no request"),
    "HTTP-10": (1, "Expect is answered here; an early answer ends the connection"),
    "HTTP-11": (0, "Connection removes no header of ours"),
    "HTTP-12": (0, "No spelling of a reserved header gets by"),
    "HTTP-13": (0, "Reserved headers are removed even when there is nothing to say"),
    "HTTP-14": (0, "Who a client is, no header says but that of a load balancer that was named"),
    "HTTP-15": (0, "Access never depends on the path, and no path climbs out of its application"),
    "HTTP-16": (
        1,
        "An answer ends in one place, whoever gives it; and an agent is believed no more than its application",
    ),
    "HTTP-17": (1, "HTTP/2 is not spoken, and nothing of it taken for HTTP/1.1"),
    "HTTP-18": (0, "Without a session nothing reaches an agent, whatever else is said"),
    "HTTP-19": (2, "No cache keeps what tport itself says"),
    "WEB-01": (0, "Cookies that a sibling planted are never ours"),
    "WEB-02": (1, "An odd cookie beside ours changes nothing"),
    "WEB-03": (2, "No application empties or fills another's jar"),
    "WEB-04": (0, "Our cookies reach no application, and none sets them"),
    "WEB-05": (0, "A form sent from a sibling changes nothing"),
    "WEB-06": (0, "What one browser began no other finishes"),
    "WEB-07": (0, "A session is for one application at one host"),
    "WEB-08": (0, "No secret of the way in is written down, or works twice"),
    "WEB-09": (0, "Nobody is sent anywhere but to the proxy and registered applications"),
    "WEB-10": (0, "A WebSocket opens for the application's own pages"),
    "WEB-11": (1, "Our pages stand in no frame, and run no script but ours"),
    "WEB-12": (1, "What others say of themselves is text"),
    "WEB-13": (1, "Another origin reads nothing unless the application's definition lets it"),
    "WEB-14": (2, "Nobody is made to leave by another site; who leaves is gone at once"),
    "WEB-15": (1, "Signing out ends all that came of it"),
    "WEB-16": (2, "Paths of ours answer to nobody's scripts"),
    "WEB-17": (1, "Sessions cross sites only where that is asked for"),
    "AZ-01": (0, "Whatever fails on the way to a yes is a no"),
    "AZ-02": (0, "Patterns mean the whole label; deny wins"),
    "AZ-03": (0, "Proxy and agent both check"),
    "AZ-04": (0, "What is taken away ends what runs, within 5 s"),
    "AZ-05": (0, "Nobody calls what isn't theirs"),
    "AZ-06": (0, "An application's token is for it alone"),
    "AZ-07": (0, "One algorithm a key; private keys stay with auth"),
    "AZ-08": (1, "The keys that are published are public"),
    "AZ-09": (1, "What says who is calling goes to the application alone"),
    "AZ-10": (0, "A trait is a value, and no template, header or request"),
    "AZ-11": (1, "A secret of one kind opens no door of another"),
    "AZ-12": (1, "What one may not see looks like what isn't there"),
    "AUTH-01": (0, "A code signs in once"),
    "AUTH-02": (0, "Guesses are counted where no guesser reaches the count"),
    "AUTH-03": (1, "Others' guesses lock nobody out of a passkey or a browser of theirs"),
    "AUTH-04": (1, "No answer tells who exists"),
    "AUTH-05": (1, "Hashing holds up nobody else"),
    "AUTH-06": (1, "Passwords that are guessed first are not taken"),
    "AUTH-07": (0, "A link works once, in time, for what it was made for"),
    "AUTH-08": (0, "A passkey answers one question, once, as who it is"),
    "AUTH-09": (0, "A passkey answers to our own origin, to the letter"),
    "AUTH-10": (0, "There is no session before the last step, and the last device stays"),
    "AUTH-11": (1, "One name in any spelling is one user"),
    "AUTH-12": (1, "What changes access asks for a proof of the last five minutes"),
    "AUTH-13": (2, "One address has its share of tries, and takes nobody else's"),
    "AUTH-14": (0, "A provider's answer is for this browser, this sign-in and this client, once"),
    "AG-01": (0, "Guessing join tokens leads nowhere, soon"),
    "AG-02": (0, "A join token is used up, and written down nowhere"),
    "AG-03": (0, "A token gives what it says and no more"),
    "AG-04": (0, "Nobody takes another's name or address"),
    "AG-05": (0, "A tunnel cannot be used backwards"),
    "AG-06": (
        0,
        "No request says what is dialled: the agent's own file does, or auth where that lets it",
    ),
    "AG-07": (
        0,
        "Where clouds keep credentials no agent connects to, under no name and in no coat",
    ),
    "AG-08": (1, "An agent follows no redirect"),
    "AG-09": (
        1,
        "TLS to an application is verified unless its definition says no, and no less after a failure",
    ),
    "AG-10": (0, "Who breaks a tunnel's rules ends that tunnel, and fills no memory"),
    "AG-11": (1, "Who does not read holds up nobody else; a tunnel that is full says so at once"),
    "AG-12": (0, "An agent gets nothing of applications that are not its own, and signs nothing"),
    "AG-13": (
        1,
        "What strangers try, and machines that may not join, takes nothing from who is signed in",
    ),
    "AG-14": (0, "Who writes applications for agents runs nothing on them"),
    "AG-15": (
        1,
        "A locked agent is gone at once, and stays out; a copied one shows itself, and is locked",
    ),
    "AG-16": (
        0,
        "A machine that joins shows its token to nobody whom its pin does not vouch for, and without"
        " one is adopted by nobody in between",
    ),
    "AG-17": (1, "Which application is asked, Host alone decides"),
    "AG-18": (1, "What is for the operator is not at the public port"),
    "DOS-01": (
        1,
        "Who is slow loses the connection, who holds many their oldest; nobody else notices",
    ),
    "DOS-02": (1, "A head has a length, and what is beyond it costs no memory"),
    "DOS-03": (1, "Chunks bring bytes with them"),
    "DOS-04": (1, "Who sends ahead waits"),
    "DOS-05": (
        1,
        "Who reads slowly is waited for by the application, and fills no memory in between",
    ),
    "DOS-06": (2, "Nothing in a WebSocket is inflated"),
    "DOS-07": (2, "No body is decompressed; JSON and YAML have a length, a depth and no multiples"),
    "DOS-08": (1, "Files never run out for agents and storage"),
    "DOS-09": (2, "Who leaves at any moment leaves nothing behind"),
    "DOS-10": (2, "A flood of failures leaves a trace that fills no disk"),
    "OPS-01": (1, "A record is one line, whatever is in it, and nothing is missing from the log"),
    "OPS-02": (1, "What must leave a trace is not done without; requests never wait for their log"),
    "OPS-03": (0, "No secret is in a log, an error, a command line or a core dump"),
    "OPS-04": (0, "What lies on disk is for tport's own user alone, and whole or not there"),
    "OPS-05": (0, "State that went back in time is noticed"),
    "OPS-06": (
        1,
        "A file that says what tport does not know is refused; what weakens is named at the start",
    ),
    "OPS-07": (
        0,
        "There is no user and no password before the first invite, and only tport's own user makes one",
    ),
    "OPS-08": (1, "What is told of a failure names no file, no program and no address of ours"),
    "OPS-09": (1, "Dependencies are pinned by hash, and none has a known hole"),
    "OPS-10": (1, "A clock that goes back revives nothing"),
    "OPS-11": (2, "A command that a page shows can be pasted as it is"),
}
# Held in its part alone, and why no request through a whole cluster would show more.
IN_ITS_PART: Mapping[str, str] = {
    "OPS-05": "the database's own, before anything serves",
    "OPS-09": "what is installed, before anything runs",
    "OPS-10": "the clock of auth, whoever asks it",
}


@cache
def proofs() -> dict[str, dict[str, list[str]]]:
    """Return id → file below `tests` → names of the tests in it that say they prove it."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text("utf-8")
        if _IN_TEXT.search(text) is None and _IN_NAME.search(text) is None:
            continue  # most of them: to parse all takes seconds
        for test in _tests(ast.parse(text)):
            for id_ in _ids(test.name, ast.get_docstring(test) or ""):
                found[id_][path.relative_to(TESTS).as_posix()].append(test.name)
    return found


def _tests(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[:5] == "test_":
            yield node


def _ids(name: str, docstring: str) -> set[str]:
    ids = {f"{area}-{number}" for area, number in _IN_TEXT.findall(docstring)}
    return ids | {f"{area.upper()}-{number}" for area, number in _IN_NAME.findall(name)}


def is_whole(file: str) -> bool:
    """Tell whether the requests of a file's tests go through a whole cluster."""
    return WHOLE.match(file) is not None


def status(id_: str, files: Collection[str]) -> str:
    """Return how an ID stands, in words."""
    if any(map(is_whole, files)):
        return "holds"
    return f"holds in its part: {IN_ITS_PART[id_]}" if id_ in IN_ITS_PART else "not proved"


def table() -> str:
    """Return the table in Markdown."""
    found = proofs()
    lines = [
        "| ID | | what holds | through a whole cluster | in its part | |",
        "|---|---|---|---|---|---|",
    ]
    for id_, (gravity, promise) in PROMISES.items():
        files = found.get(id_, {})
        whole = [file for file in files if is_whole(file)]
        parts = [file for file in files if not is_whole(file)]
        lines.append(
            f"| {id_} | P{gravity} | {promise} | {_links(whole)} | {_links(parts)} | {status(id_, files)} |"
        )
    return "\n".join([*lines, ""])


def _links(files: Iterable[str]) -> str:
    return ", ".join(f"[{_short(file)}](../tests/{file})" for file in files)


def _short(file: str) -> str:
    return file.removeprefix("security/").removesuffix(".py").replace("test_", "")


def page(text: str) -> str:
    """Return the page with its table written anew."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
