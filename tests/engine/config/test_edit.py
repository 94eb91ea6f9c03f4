"""`tport apps check --write`: settings go into a person's file, and nothing else in it changes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.engine.config.edit_cases import ALL, CASES, file
from tport.engine.config.edit import with_proposal
from tport.engine.types.probe import Proposal


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
