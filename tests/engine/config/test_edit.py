"""`tport apps check --write`: settings go into a person's file, and nothing else in it changes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.engine.config.places import read
from tport.engine.config.edit import with_proposal
from tport.engine.config.entry_text import put
from tport.engine.errors import ConfigError, InvalidRequest, NotFound, TportError
from tport.engine.types.app import App
from tport.engine.types.probe import Proposal

HOST = Proposal(host="a.example.com:3080")
ALL = Proposal(
    uri="https://localhost:8443/a/",
    host="a.example.com",
    redirect=("localhost", "a.internal"),
    insecure_skip_verify=True,
    jwt_claims="none",
)


def file(entry: Sequence[str], *, last: bool = False, line_break: str = "\n") -> str:
    """Return a file in which these lines are an app, beside another; `last`: no line ends it."""
    lines = [f"  {line}" if line else "" for line in entry]
    other = ["  - name: b  # the other", "    uri: http://b", "  # behind it"]
    apps = [*other, *lines] if last else [*lines, *other, ""]
    return line_break.join(["# first", "app_service:", "  enabled: yes", "  apps:", *apps])


def app(text: str, name: str = "a") -> App:
    [found] = [app for app in read(text).app_service.apps if app.name == name]
    return found


# --- Cases, each a part of a file before and after -----------------------------------------------

CASES: dict[str, tuple[Proposal, Sequence[str], Sequence[str]]] = {
    "everything, into an entry that has nothing": (
        ALL,
        ["- name: a", "  uri: http://localhost:3000  # Grafana"],
        [
            "- name: a",
            "  uri: https://localhost:8443/a/  # Grafana",
            "  insecure_skip_verify: true",
            "  rewrite:",
            "    redirect:",
            "    - localhost",
            "    - a.internal",
            "    headers:",
            '    - "Host: a.example.com"',
            "    jwt_claims: none",
        ],
    ),
    "everything, over what is there": (
        ALL,
        [
            "- name: a",
            "  rewrite:",
            "    jwt_claims: 'roles'  # c1",
            "    headers:  # c2",
            '    - "X-A: b"',
            "    # c3",
            "    - 'host: old'  # c4",
            '    - "X-B: c"',
            "    redirect:",
            "    - localhost",
            "  insecure_skip_verify: no  # c5",
            '  uri: "http://localhost:3000"  # c6',
        ],
        [
            "- name: a",
            "  rewrite:",
            "    jwt_claims: 'none'  # c1",
            "    headers:  # c2",
            '    - "X-A: b"',
            "    # c3",
            "    - 'Host: a.example.com'  # c4",
            '    - "X-B: c"',
            "    redirect:",
            "    - localhost",
            "    - a.internal",
            "  insecure_skip_verify: true  # c5",
            '  uri: "https://localhost:8443/a/"  # c6',
        ],
    ),
    "a uri in single quotes, in the next line": (
        Proposal(uri="http://localhost/it's"),
        ["- name: a", "  uri:", "    'http://localhost'"],
        ["- name: a", "  uri:", "    'http://localhost/it''s'"],
    ),
    "a plain uri that needs quotes from now on": (
        Proposal(uri="http://[::1]:3000/#x"),
        ["- name: a", "  uri: http://localhost"],
        ["- name: a", '  uri: "http://[::1]:3000/#x"'],
    ),
    "what comes last is first in the entry, with comments around": (
        HOST,
        [
            "# before",
            "- uri: http://localhost:3000",
            "",
            "  # of the labels",
            "  labels:",
            "    env: prod  # as ever",
            "",
            "    team: x",
            "  name: a",
            "",
            "  # of the next app",
        ],
        [
            "# before",
            "- uri: http://localhost:3000",
            "",
            "  # of the labels",
            "  labels:",
            "    env: prod  # as ever",
            "",
            "    team: x",
            "  name: a",
            "  rewrite:",
            "    headers:",
            '    - "Host: a.example.com:3080"',
            "",
            "  # of the next app",
        ],
    ),
    "lists in the style of the entry's own": (
        replace(ALL, uri="", insecure_skip_verify=False),
        ["- name: a", "  uri: http://a", "  rewrite:", "      headers:", "        -   'X: y'"],
        [
            "- name: a",
            "  uri: http://a",
            "  rewrite:",
            "      headers:",
            "        -   'X: y'",
            '        -   "Host: a.example.com"',
            "      redirect:",
            "        - localhost",
            "        - a.internal",
            "      jwt_claims: none",
        ],
    ),
    "indented as the entry's labels and commands are": (
        HOST,
        [
            "- name: a",
            "  uri: http://a",
            "  labels:",
            "      x: y",
            "  commands:",
            "   - name: os",
            "     command: [/bin/uname]",
        ],
        [
            "- name: a",
            "  uri: http://a",
            "  labels:",
            "      x: y",
            "  commands:",
            "   - name: os",
            "     command: [/bin/uname]",
            "  rewrite:",
            "      headers:",
            '       - "Host: a.example.com:3080"',
        ],
    ),
    "a rewrite of nothing": (
        HOST,
        ["- name: a", "  rewrite:  # later", "    # headers: []", "  uri: http://a"],
        [
            "- name: a",
            "  rewrite:  # later",
            "    headers:",
            '    - "Host: a.example.com:3080"',
            "    # headers: []",
            "  uri: http://a",
        ],
    ),
    "a rewrite of ~": (
        HOST,
        ["- name: a", "  uri: http://a", "  rewrite: ~  # none"],
        [
            "- name: a",
            "  uri: http://a",
            "  rewrite:  # none",
            "    headers:",
            '    - "Host: a.example.com:3080"',
        ],
    ),
    "settings of nothing": (
        ALL,
        [
            "- name: a",
            "  uri: http://a",
            "  insecure_skip_verify:",
            "  rewrite:",
            "    headers: ''",
            "    redirect: null # r",
            "    jwt_claims:",
        ],
        [
            "- name: a",
            "  uri: https://localhost:8443/a/",
            "  insecure_skip_verify: true",
            "  rewrite:",
            "    headers:",
            '    - "Host: a.example.com"',
            "    redirect: # r",
            "    - localhost",
            "    - a.internal",
            "    jwt_claims: none",
        ],
    ),
    "lists of one without a list": (
        replace(HOST, redirect=("b.internal",)),
        [
            "- name: a",
            "  uri: http://a",
            "  rewrite:",
            "    redirect:   a.internal  # r",
            "    headers:",
            "      'X: y'  # h",
        ],
        [
            "- name: a",
            "  uri: http://a",
            "  rewrite:",
            "    redirect:",
            "    - a.internal  # r",
            "    - b.internal",
            "    headers:",
            "      - 'X: y'  # h",
            '      - "Host: a.example.com:3080"',
        ],
    ),
    "one header without a list that is the Host": (
        HOST,
        ["- name: a", "  uri: http://a", "  rewrite:", "    headers: Host:old # h"],
        [
            "- name: a",
            "  uri: http://a",
            "  rewrite:",
            '    headers: "Host: a.example.com:3080" # h',
        ],
    ),
    "of several Hosts the last, which is the one that counts": (
        HOST,
        [
            "- name: a",
            "  uri: http://a",
            "  rewrite:",
            "    headers: ['Host: 1', 'Host: 2', 'X: y']",
        ],
        [
            "- name: a",
            "  uri: http://a",
            "  rewrite:",
            "    headers: ['Host: 1', 'Host: a.example.com:3080', 'X: y']",
        ],
    ),
    "values within brackets": (
        Proposal(uri="http://a/,x", host="h", insecure_skip_verify=True, jwt_claims="traits"),
        [
            "- {name: a, uri: http://a, insecure_skip_verify: 'no',",
            "   rewrite: {headers: ['Host: x'], jwt_claims: , redirect: [a]}}",
        ],
        [
            "- {name: a, uri: \"http://a/,x\", insecure_skip_verify: 'true',",
            "   rewrite: {headers: ['Host: h'], jwt_claims: traits , redirect: [a]}}",
        ],
    ),
    "back to the default": (
        Proposal(jwt_claims="roles-and-traits"),
        ["- name: a", "  uri: http://a", "  rewrite: {jwt_claims: roles}"],
        ["- name: a", "  uri: http://a", "  rewrite: {jwt_claims: roles-and-traits}"],
    ),
    "what is so already": (
        Proposal(
            uri="http://a",
            host="h",
            redirect=("x", "x"),
            insecure_skip_verify=True,
            jwt_claims="roles-and-traits",
        ),
        [
            "- {name: a, uri: http://a, insecure_skip_verify: on, "
            "rewrite: {redirect: x, headers: 'Host: h'}}",
        ],
        [
            "- {name: a, uri: http://a, insecure_skip_verify: on, "
            "rewrite: {redirect: x, headers: 'Host: h'}}",
        ],
    ),
    "a host twice in the proposal, and one that is there in other letters": (
        Proposal(redirect=("b", "c", "b")),
        ["- name: a", "  uri: http://a", "  rewrite:", "    redirect:", "    - B"],
        ["- name: a", "  uri: http://a", "  rewrite:", "    redirect:", "    - B", "    - c"],
    ),
    "behind a text of several lines": (
        HOST,
        [
            "- name: a",
            "  uri: http://a",
            "  description: |-",
            "    # no comment",
            "",
            "    text",
            "",
        ],
        [
            "- name: a",
            "  uri: http://a",
            "  description: |-",
            "    # no comment",
            "",
            "    text",
            "  rewrite:",
            "    headers:",
            '    - "Host: a.example.com:3080"',
            "",
        ],
    ),
    "behind a text whose blank lines count": (
        HOST,
        ["- name: a", "  uri: http://a", "  description: |+", "    text", "", "", "# c"],
        [
            "- name: a",
            "  uri: http://a",
            "  description: |+",
            "    text",
            "",
            "",
            "  rewrite:",
            "    headers:",
            '    - "Host: a.example.com:3080"',
            "# c",
        ],
    ),
    "a name below its dash": (
        replace(HOST, insecure_skip_verify=True),
        ["-", "      name: a", "      uri: http://a"],
        [
            "-",
            "      name: a",
            "      uri: http://a",
            "      insecure_skip_verify: true",
            "      rewrite:",
            "        headers:",
            '        - "Host: a.example.com:3080"',
        ],
    ),
    "an alias that is not touched": (
        replace(HOST, insecure_skip_verify=True),
        ["- name: a", "  labels: {x: &u 'http://a'}", "  uri: *u  # c1", "  description: *u"],
        [
            "- name: a",
            "  labels: {x: &u 'http://a'}",
            "  uri: *u  # c1",
            "  description: *u",
            "  insecure_skip_verify: true",
            "  rewrite:",
            "    headers:",
            '    - "Host: a.example.com:3080"',
        ],
    ),
}


@pytest.mark.parametrize("line_break", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_only_the_settings_change(
    case: tuple[Proposal, Sequence[str], Sequence[str]], last: bool, line_break: str
) -> None:
    proposal, before, after = case

    edited = with_proposal(file(before, last=last, line_break=line_break), "a", proposal)

    assert edited == file(after, last=last, line_break=line_break)
    # What is right once is left alone.
    assert with_proposal(edited, "a", proposal) == edited


# --- Whole files -------------------------------------------------------------------------------

WHOLE = {
    "four columns, lists below their setting": (
        """\
app_service:
    enabled: "yes"
    apps:
        - name: b
          uri: http://b

        - name: a
          uri: http://a

    debug_app: no  # not here
tport: {data_dir: /srv}
""",
        """\
app_service:
    enabled: "yes"
    apps:
        - name: b
          uri: http://b

        - name: a
          uri: https://localhost:8443/a/
          insecure_skip_verify: true
          rewrite:
              redirect:
                  - localhost
                  - a.internal
              headers:
                  - "Host: a.example.com"
              jwt_claims: none

    debug_app: no  # not here
tport: {data_dir: /srv}
""",
    ),
    "a mark at the beginning, and lines behind the end": (
        "\ufeff---\napp_service:\n apps:\n - name: a\n   uri: http://a\n...\n# over\n",
        "\ufeff---\napp_service:\n apps:\n - name: a\n   uri: https://localhost:8443/a/\n"
        "   insecure_skip_verify: true\n   rewrite:\n    redirect:\n    - localhost\n    - a.internal\n"
        '    headers:\n    - "Host: a.example.com"\n    jwt_claims: none\n...\n# over\n',
    ),
    "one line": (
        "app_service: {apps: [{uri: http://a, name: a, insecure_skip_verify: no, rewrite:"
        " {headers: 'Host: x', redirect: [localhost, a.internal], jwt_claims: roles}}]}",
        "app_service: {apps: [{uri: https://localhost:8443/a/, name: a, insecure_skip_verify: true,"
        " rewrite: {headers: 'Host: a.example.com', redirect: [localhost, a.internal], jwt_claims:"
        " none}}]}",
    ),
}


@pytest.mark.parametrize(("before", "after"), WHOLE.values(), ids=WHOLE)
def test_the_files_own_style_is_kept(before: str, after: str) -> None:
    assert with_proposal(before, "a", ALL) == after


def test_a_proposal_of_nothing_changes_nothing() -> None:
    text = file(["- {name: a, uri: http://a}"])

    assert with_proposal(text, "a", Proposal()) == text


# --- What is refused ---------------------------------------------------------------------------

IN_BRACKETS = "written in brackets, where no line can be added"
ELSEWHERE = "has an anchor or a tag, so that it may stand elsewhere too"


@pytest.mark.parametrize(
    ("proposal", "entry", "message"),
    [
        (HOST, ["- {name: a, uri: http://a}"], f"line 5: the app 'a' is {IN_BRACKETS}"),
        (
            Proposal(insecure_skip_verify=True),
            ["- {name: a, uri: http://a}"],
            f"line 5: the app 'a' is {IN_BRACKETS}",
        ),
        (
            HOST,
            ["- name: a", "  uri: http://a", "  rewrite: {jwt_claims: roles}"],
            f"line 7: `rewrite` is {IN_BRACKETS}",
        ),
        (
            HOST,
            ["- name: a", "  uri: http://a", "  rewrite: {headers: 'X: y'}"],
            f"line 7: `rewrite` is {IN_BRACKETS}",
        ),
        (
            HOST,
            ["- name: a", "  uri: http://a", "  rewrite:", "    headers: ['X: y']"],
            f"line 8: `headers` is {IN_BRACKETS}",
        ),
        (
            Proposal(redirect=("x",)),
            ["- name: a", "  uri: http://a", "  rewrite:", "    redirect: []"],
            f"line 8: `redirect` is {IN_BRACKETS}",
        ),
        (HOST, ["- &a", "  name: a", "  uri: http://a"], f"line 5: the app 'a' {ELSEWHERE}"),
        (ALL, ["- name: a", "  uri: &u http://a"], f"line 6: `uri` {ELSEWHERE}"),
        (ALL, ["- name: a", "  uri: !!str http://a"], f"line 6: `uri` {ELSEWHERE}"),
        (
            HOST,
            [
                *("- name: c", "  uri: http://c", "  rewrite: &r {}"),
                *("- name: a", "  uri: http://a", "  rewrite: *r"),
            ],
            f"line 7: `rewrite` {ELSEWHERE}",
        ),
        (
            HOST,
            ["- name: a", "  uri: http://a", "  rewrite:", "    headers:", "    - &h 'Host: x'"],
            f"line 9: the header Host {ELSEWHERE}",
        ),
        (
            HOST,
            ["- name: a", "  uri: http://a", "  <<: {rewrite: {jwt_claims: none}}"],
            "line 5: `rewrite` comes by <<, from what may stand elsewhere too",
        ),
        (
            ALL,
            ["- name: a", "  uri: >-", "    http://a"],
            "line 6: `uri` runs over several lines",
        ),
        (
            HOST,
            ["- name: a", "  uri: http://a", "  rewrite:", '    headers: "X:\\', '      y"'],
            "line 8: `headers` runs over several lines",
        ),
    ],
)
def test_what_cannot_be_edited_safely_is_refused_with_its_line(
    proposal: Proposal, entry: Sequence[str], message: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        with_proposal(file(entry), "a", proposal)

    assert str(caught.value).startswith(message)
    assert "by hand" in caught.value.hint


def test_a_whole_section_that_is_shared_is_refused() -> None:
    text = "app_service: &s\n  apps: &x\n  - name: a\n    uri: http://a\n"

    with pytest.raises(InvalidRequest, match=f"^line 1: `app_service` {ELSEWHERE}"):
        with_proposal(text, "a", HOST)
    with pytest.raises(InvalidRequest, match=f"^line 2: `apps` {ELSEWHERE}"):
        with_proposal(text.replace(" &s", ""), "a", HOST)


def test_settings_that_the_app_cannot_have_are_refused_with_the_complaint() -> None:
    text = file(["- name: a", "  uri: https://a", "  tls: {server_name: x}"])

    with pytest.raises(InvalidRequest, match=r"tls: the uri is http://, which has no TLS"):
        with_proposal(text, "a", Proposal(uri="http://a"))
    with pytest.raises(InvalidRequest, match=r"tport.yaml:6:10: .*uri: 'a b' is no URI"):
        with_proposal(text, "a", Proposal(uri="a b"))
    # A key without its colon: what is put behind it becomes part of it.
    with pytest.raises(
        InvalidRequest, match=r"tport.yaml:7:15: .*jwt_claims none: unknown setting"
    ):
        with_proposal(
            file(["- name: a", "  uri: http://a", "  rewrite: {jwt_claims}"]),
            "a",
            Proposal(jwt_claims="none"),
        )


def test_there_must_be_a_sound_file_with_a_sound_app_of_this_name() -> None:
    with pytest.raises(NotFound, match=r"'c' is not in app_service\.apps"):
        with_proposal(file(["- name: a", "  uri: http://a"]), "c", HOST)
    with pytest.raises(NotFound):
        with_proposal("", "a", HOST)
    with pytest.raises(InvalidRequest, match=r"uri: is missing") as caught:
        with_proposal(file(["- name: a"]), "a", HOST)
    assert caught.value.hint == "mend this first"
    with pytest.raises(ConfigError, match=r"tport.yaml:1:1: x: unknown setting"):
        with_proposal("x: y", "a", HOST)


@pytest.mark.parametrize("wrong", [replace(HOST, host=""), replace(HOST, redirect=("x",))])
def test_what_the_new_text_does_not_bear_out_is_never_returned(
    monkeypatch: pytest.MonkeyPatch, wrong: Proposal
) -> None:
    """Whatever becomes of the text: here something else is put in."""
    monkeypatch.setattr(
        "tport.engine.config.edit.put", lambda text, entry, new: put(text, entry, wrong)
    )

    with pytest.raises(InvalidRequest, match="line 5: the app 'a' is written in a way"):
        with_proposal(file(["- name: a", "  uri: http://a"]), "a", HOST)


@pytest.mark.parametrize(
    "harm", ["  debug_app: yes\n", "tport: {nodename: x}\n", "  - name: c\n    uri: http://c\n"]
)
def test_a_change_of_anything_else_is_never_returned(
    monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    monkeypatch.setattr("tport.engine.config.edit.put", lambda *args: put(*args) + harm)

    with pytest.raises(InvalidRequest, match="line 5: the app 'a' is written in a way"):
        with_proposal(file(["- name: a", "  uri: http://a"]), "a", HOST)


# --- Any file ----------------------------------------------------------------------------------

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


@settings(deadline=None)  # the first file is read while everything is cold
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


@settings(deadline=None)
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
    assert re.findall("#.*", edited) == re.findall("#.*", text)
