"""Cases of settings put into an app's entry: a part of a file before and after, and files to hold it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from tests.engine.config.places import read
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
