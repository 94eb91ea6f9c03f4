"""Which tests prove which promise of `docs/security.md`; the tables there are written by this.

    python -m tests.security.coverage        write the tables anew

A test belongs to an ID when its name (`test_web_06_…`) or its docstring (`WEB-06`) says so.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- written by tests/security/coverage.py -->\n", "<!-- until here -->\n"

_AREAS = ("TLS", "HTTP", "WEB", "AZ", "AG", "AUTH", "DOS", "OPS")
_IN_NAME = re.compile(rf"_({'|'.join(_AREAS).lower()})_?(\d\d)_")
_IN_TEXT = re.compile(rf"\b({'|'.join(_AREAS)})-(\d\d)\b")
WHOLE = "test_proxy_"  # files of tests whose requests go through a real proxy, tunnel and agent

PROMISES: Mapping[str, str] = {
    "TLS-01": "A tunnel needs a client certificate, whatever the SNI says",
    "TLS-02": "No connection that carries an identity is resumed",
    "TLS-03": "What Host asks for is what SNI asked for, else 421",
    "TLS-04": "One port, many protocols, and none taken for another",
    "TLS-05": "Without authorities to verify by nothing starts",
    "TLS-06": "Each door opens for its own kind of certificate",
    "TLS-07": "A name is never read as more than a name",
    "TLS-08": "Knowing a session's id opens nothing",
    "TLS-09": "No connection outlives its certificate",
    "TLS-10": "No old version, no weak suite or group, no renegotiation, no compression",
    "TLS-11": "Each spelling of a name is the same name",
    "TLS-12": "Who a client is, nobody says but a load balancer that was named",
    "TLS-13": "What has to do with ACME opens nothing and costs nothing",
    "HTTP-01": "Content-Length and Transfer-Encoding exclude each other",
    "HTTP-02": "Content-Length has one form",
    "HTTP-03": "Lines and header names have one form",
    "HTTP-04": "Chunks have one form; trailers go no further",
    "HTTP-05": "Transfer-Encoding is `chunked`, in HTTP/1.1, once",
    "HTTP-06": "Method and target have one form",
    "HTTP-07": "Host is given once, and is no input to what the application is told",
    "HTTP-08": "Nothing is upgraded but WebSockets",
    "HTTP-09": "What follows an upgrade that did not happen is no request",
    "HTTP-10": "Expect is answered here; an early answer ends the connection",
    "HTTP-11": "Connection removes no header of ours",
    "HTTP-12": "No spelling of a reserved header gets by",
    "HTTP-13": "Reserved headers are removed even when there is nothing to say",
    "HTTP-18": "Without a session nothing reaches an agent, whatever else is said",
    "WEB-01": "Cookies that a sibling planted are never ours",
    "WEB-02": "An odd cookie beside ours changes nothing",
    "WEB-03": "No application empties or fills another's jar",
    "WEB-04": "Our cookies reach no application, and none sets them",
    "WEB-05": "A form sent from a sibling changes nothing",
    "WEB-06": "What one browser began no other finishes",
    "WEB-07": "A session is for one application at one host",
    "WEB-08": "No secret of the way in is written down, or works twice",
    "WEB-09": "Nobody is sent anywhere but to the proxy and registered applications",
    "WEB-10": "A WebSocket opens for the application's own pages",
    "WEB-11": "Our pages stand in no frame, and run no script but ours",
    "WEB-12": "What others say of themselves is text",
    "WEB-13": "Another origin reads nothing unless the application's definition lets it",
    "WEB-14": "Nobody is made to leave by another site; who leaves is gone at once",
    "WEB-15": "Signing out ends all that came of it",
    "WEB-16": "Paths of ours answer to nobody's scripts",
    "WEB-17": "Sessions cross sites only where that is asked for",
    "AZ-01": "Whatever fails on the way to a yes is a no",
    "AZ-02": "Patterns mean the whole label; deny wins",
    "AZ-03": "Proxy and agent both check",
    "AZ-04": "What is taken away ends what runs, within 5 s",
    "AZ-05": "Nobody calls what isn't theirs",
    "AZ-06": "An application's token is for it alone",
    "AZ-07": "One algorithm a key; private keys stay with auth",
    "AZ-08": "The keys that are published are public",
    "AZ-09": "What says who is calling goes to the application alone",
    "AZ-10": "A trait is a value, and no template, header or request",
    "AZ-11": "A secret of one kind opens no door of another",
    "AZ-12": "What one may not see looks like what isn't there",
    "AUTH-01": "A code signs in once",
    "AUTH-02": "Guesses are counted where no guesser reaches the count",
    "AUTH-03": "Others' guesses lock nobody out of a passkey or a browser of theirs",
    "AUTH-04": "No answer tells who exists",
    "AUTH-05": "Hashing holds up nobody else",
    "AUTH-06": "Passwords that are guessed first are not taken",
    "AUTH-07": "A link works once, in time, for what it was made for",
    "AUTH-08": "A passkey answers one question, once, as who it is",
    "AUTH-09": "A passkey answers to our own origin, to the letter",
    "AUTH-10": "There is no session before the last step, and the last device stays",
    "AUTH-11": "One name in any spelling is one user",
    "AUTH-12": "What changes access asks for a proof of the last five minutes",
    "AUTH-13": "One address has its share of tries, and takes nobody else's",
    "DOS-01": "Who is slow loses the connection, who holds many their oldest; nobody else notices",
    "DOS-02": "A head has a length, and what is beyond it costs no memory",
    "DOS-03": "Chunks bring bytes with them",
    "DOS-04": "Who sends ahead waits",
    "DOS-05": "Who doesn't read makes the application wait, and fills no memory on the way",
    "DOS-06": "Nothing in a WebSocket is inflated",
    "DOS-07": "No body is decompressed; JSON and YAML have a length, a depth and no multiples",
    "DOS-08": "Files never run out for agents and storage",
    "DOS-09": "Who leaves at any moment leaves nothing behind",
    "DOS-10": "A flood of failures leaves a trace that fills no disk",
    "AG-01": "Guessing join tokens leads nowhere, soon",
    "AG-02": "A join token is used up, and written down nowhere",
    "AG-03": "A token gives what it says and no more",
    "AG-04": "Nobody takes another's name or address",
    "AG-05": "A tunnel cannot be used backwards",
    "AG-06": "No request says what is dialled: the agent's own file does, or auth where that lets it",
    "AG-14": "Who writes applications for agents runs nothing on them",
    "AG-15": "A locked agent is gone at once, and stays out; a copied one shows itself, and is locked",
}


def proofs() -> dict[str, dict[str, list[str]]]:
    """Return id → file beside this one → names of the tests in it that say they prove it."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for test in _tests(ast.parse(path.read_text("utf-8"))):
            for id_ in _ids(test.name, ast.get_docstring(test) or ""):
                found[id_][path.name].append(test.name)
    return found


def _tests(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[:5] == "test_":
            yield node


def _ids(name: str, docstring: str) -> set[str]:
    ids = {f"{area}-{number}" for area, number in _IN_TEXT.findall(docstring)}
    return ids | {f"{area.upper()}-{number}" for area, number in _IN_NAME.findall(name)}


def tables() -> str:
    """Return the tables in Markdown: what was promised for this version, and what else is proved."""
    found = proofs()
    lines = ["| ID | what holds | through a whole cluster | in its part |", "|---|---|---|---|"]
    for id_, promise in PROMISES.items():
        files = found.get(id_, {})
        whole = [file for file in files if file.startswith(WHOLE)]
        parts = [file for file in files if file not in whole]
        lines.append(f"| {id_} | {promise} | {_links(whole)} | {_links(parts)} |")
    lines += ["", "Further IDs that these tests name:", "", "| ID | tests |", "|---|---|"]
    further = sorted(found.keys() - PROMISES.keys(), key=_order)
    lines += [f"| {id_} | {_links(list(found[id_]))} |" for id_ in further]
    return "\n".join([*lines, ""])


def _order(id_: str) -> tuple[int, str]:
    return _AREAS.index(id_.partition("-")[0]), id_


def _links(files: list[str]) -> str:
    return ", ".join(f"[{file[5:-3]}](../tests/security/{file})" for file in files)


def page(text: str) -> str:
    """Return the page with its tables written anew."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
