"""In any file, drawn or mangled, `tport apps check --write` edits right or refuses in words."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.engine.config.edit_cases import ALL, CASES, HOST, app, file
from tests.engine.config.places import read
from tport.engine.config.edit import with_proposal
from tport.engine.errors import TportError
from tport.engine.types.probe import Proposal

HOSTS = st.sampled_from(["localhost", "a.internal", "10.0.0.1", "x.example.com"])
VALUES = st.sampled_from(["", "'", '"'])  # how a value is quoted
CLAIMS = st.sampled_from(["roles-and-traits", "roles", "traits", "none"])
Lines = list[tuple[str, bool]]  # a line, and whether a proposal may change it

proposals = st.builds(
    Proposal,
    uri=st.sampled_from(
        ["", "http://localhost:3000", "https://[::1]:8443/a/?b=c#d", "http://x/it's"]
    ),
    host=st.sampled_from(["", "a.example.com", "a.example.com:3080", "localhost:3000"]),
    redirect=st.lists(HOSTS, max_size=3, unique=True).map(tuple),
    insecure_skip_verify=st.booleans(),
    jwt_claims=st.none() | CLAIMS,
)


@st.composite
def lists(draw: st.DrawFn, name: str, items: list[str], dash: int) -> Lines:
    """Draw a list as a block, as one value, or empty."""
    changes = [item.lower().startswith("'host:") for item in items]
    if not items:
        nothing = draw(st.sampled_from(["", " ~", " null", " ''"]))
        return [(f"{name}:{nothing}", True)]
    if len(items) == 1 and draw(st.booleans()):
        return [(f"{name}: {items[0]}", True)]
    gap = draw(st.sampled_from([" ", "   "]))
    block = [
        (f"{' ' * dash}-{gap}{item}", change) for item, change in zip(items, changes, strict=True)
    ]
    return [(f"{name}:", False), *block]


@st.composite
def rewrites(draw: st.DrawFn, step: int, dash: int) -> Lines:
    parts: list[Lines] = []
    if draw(st.booleans()):
        header = st.sampled_from(["'X-A: b'", "'Host: old'", "'host:x'", "'X-B: {{external.env}}'"])
        items = draw(st.lists(header, max_size=3))
        parts.append(draw(lists("headers", items, dash)))
    if draw(st.booleans()):
        hosts = draw(st.lists(HOSTS, max_size=3))
        parts.append(draw(lists("redirect", hosts, dash)))
    if draw(st.booleans()):
        quote = draw(VALUES)
        parts.append([(f"jwt_claims: {quote}{draw(CLAIMS)}{quote}", True)])
    if not parts:
        return [(draw(st.sampled_from(["rewrite:", "rewrite: null"])), True)]
    below = [line for part in draw(st.permutations(parts)) for line in part]
    return [("rewrite:", False), *((" " * step + line, change) for line, change in below)]


@st.composite
def entries(draw: st.DrawFn, name: str, step: int, dash: int) -> Lines:
    quote = draw(VALUES)
    parts: list[Lines] = [
        [(f"name: {draw(VALUES.map(lambda quote: quote + name + quote))}", False)],
        [(f"uri: {quote}http://{name}.internal:3000{quote}", True)],
    ]
    if draw(st.booleans()):
        parts.append([("labels:", False), (" " * step + "env: prod", False)])
    if draw(st.booleans()):
        parts.append([("description: of", False), (" " * step + "two lines", False)])
    if draw(st.booleans()):
        parts.append([(f"insecure_skip_verify: {draw(st.sampled_from(['no', 'yes', '']))}", True)])
    if draw(st.booleans()):
        parts.append(draw(rewrites(step, dash)))
    lines = [line for part in draw(st.permutations(parts)) for line in part]
    return [
        (f"{'  ' if index else '- '}{line}", change) for index, (line, change) in enumerate(lines)
    ]


@st.composite
def files(draw: st.DrawFn) -> tuple[list[tuple[str, bool]], str]:
    """Draw the lines of a file, and which of them a proposal for the app "b" may change.

    A comment with a number of its own is behind every line, and in lines between.
    """
    step = draw(st.integers(2, 4))
    dash = draw(st.sampled_from([0, 2, 4]))
    names = draw(
        st.permutations(["a", "b", "c"][draw(st.integers(0, 1)) : draw(st.integers(2, 3))])
    )
    lines: Lines = [("app_service:", False), (" " * step + "apps:", False)]
    for name in names:
        entry = draw(entries(name, step, dash))
        pad = " " * (step + dash)
        lines += [(pad + line, change and name == "b") for line, change in entry]
    if draw(st.booleans()):
        lines.append((" " * step + "debug_app: yes", False))
    numbered: Lines = []
    for index, (line, change) in enumerate(lines):
        # A comment would end a value that goes on in the next line.
        goes_on = index + 1 < len(lines) and "two lines" in lines[index + 1][0]
        numbered.append((line if goes_on else f"{line}  # {index}", change))
        if not goes_on and draw(st.integers(0, 4)) == 0:
            numbered.append(
                (draw(st.sampled_from(["", f"# {index} below", f"      # {index} b"])), False)
            )
    return numbered, draw(st.sampled_from(["\n", "\r\n"]))


@given(files(), proposals, st.booleans())
def test_in_any_file_the_app_becomes_as_proposed_and_every_other_line_stays(
    drawn: tuple[Lines, str], proposal: Proposal, ends: bool
) -> None:
    lines, line_break = drawn
    before = line_break.join(line for line, _ in lines) + (line_break if ends else "")

    after = with_proposal(before, "b", proposal)

    wanted = proposal.applied(app(before, "b"))
    made = app(after, "b")
    assert replace(made, rewrite=wanted.rewrite) == wanted
    assert made.rewrite.jwt_claims == wanted.rewrite.jwt_claims
    there = app(before, "b").rewrite.redirect
    added = [host for host in proposal.redirect if host not in there]
    assert made.rewrite.redirect == (*there, *added)
    # Of each name the last value counts.
    assert {header.name.lower(): header.value for header in made.rewrite.headers} == {
        header.name.lower(): header.value for header in wanted.rewrite.headers
    }
    for other in read(before).app_service.apps:
        if other.name != "b":
            assert app(after, other.name) == other

    new = after.split(line_break)
    rest = iter(new)
    for line, may_change in lines:
        assert may_change or line in rest, f"{line!r} is gone, or elsewhere"
    assert re.findall(r"# \d+", after) == re.findall(r"# \d+", before)
    assert after.endswith(line_break) == before.endswith(line_break)
    assert ("\r" in after) == (line_break == "\r\n")
    assert after.count("\r\n") in (0, after.count("\n"))


BITS = [
    "\n",
    "\r",
    " ",
    "\t",
    "&a ",
    "*a",
    "!!str ",
    "? ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "#",
]
BITS += [
    " # x\n",
    "'",
    '"',
    "|\n",
    ">-\n",
    "<<: ",
    "~",
    "\x85",
    "\u2028",
    "...\n",
    "---\n",
    "\ufeff",
]


# A text in quotes, which may hold a #, or a comment.
QUOTED_OR_COMMENT = re.compile(r"""'(?:[^']|'')*'|"(?:[^"\\]|\\.)*"|(?<!\S)#.*""")


def comments(text: str) -> list[str]:
    return [found for found in QUOTED_OR_COMMENT.findall(text) if found.startswith("#")]


@given(
    st.sampled_from([file(before) for _, before, _ in CASES.values()]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), st.sampled_from(["", *BITS]))),
    st.sampled_from([ALL, HOST, Proposal(redirect=("x",)), Proposal(uri="https://a/")]),
)
def test_a_mangled_file_is_refused_in_words_or_edited_right(
    text: str, changes: list[tuple[float, int, str]], proposal: Proposal
) -> None:
    for where, gone, bit in changes[:3]:
        at = int(where * len(text))
        text = text[:at] + bit + text[at + (gone if not bit else 0) :]
    try:
        edited = with_proposal(text, "a", proposal)
    except TportError:
        return

    assert with_proposal(edited, "a", proposal) == edited
    assert app(edited).uri == (proposal.uri or app(text).uri)
    assert comments(edited) == comments(text)
