"""Where each value stands: what edits of a file go by."""

from __future__ import annotations

import pytest

from tport.engine.config.document import Mapping, Node, Scalar, Sequence, parse_document


def span(text: str, *path: str | int) -> str:
    """Return the characters of the value at `path`."""
    node = at(text, *path)
    return text[node.start : node.end]


def at(text: str, *path: str | int) -> Node:
    node = parse_document(text)
    for step in path:
        if isinstance(node, Mapping):
            [node] = [value for key, value in node.entries if key.text == step]
        else:
            assert isinstance(node, Sequence)
            assert isinstance(step, int)
            node = node.items[step]
    assert node is not None
    return node


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: b  # c\n", "b"),
        ("\ufeffa: b\r\n", "b"),
        ("a: 'b c'\n", "'b c'"),
        ('a: "b\n  c" # d\n', '"b\n  c"'),
        ("a: b\n  c # d\n", "b\n  c"),
        ("a:\n  b\n", "b"),
        ("a: ~ # d\n", "~"),
        ("a: !!str b\n", "!!str b"),
        ("a: [b, {c: d}] # e\n", "[b, {c: d}]"),
        ("a: {b: [\n  c,\n]}\n# d\n", "{b: [\n  c,\n]}"),
        ("a:\n- b\n-  c  # d\n\n# e\n", "- b\n-  c"),
        ("a:\n  b: c\n  d:\n    e: f\n\n  # g\n", "b: c\n  d:\n    e: f"),
        ("b: &x y\na:\n  c: d\n  e: *x  # f\n", "c: d\n  e: *x"),
        ("b: &x y\na:\n  - *x\n  - c\n", "- *x\n  - c"),
        ("a: |\n  b\n\n\n# d\n", "|\n  b"),
        ("a: >-\n  b\n  c", ">-\n  b\n  c"),
        ("a: |+  # keep +\n  b\n\nc: d\n", "|+  # keep +\n  b\n"),
        ("a: |  # not +\r\n  b\r\n\r\nc: d\r\n", "|  # not +\r\n  b"),
        ("a:\n  b: |\n    c\n\n# d\n", "b: |\n    c"),
    ],
)
def test_a_value_is_the_characters_that_were_written_for_it(text: str, expected: str) -> None:
    """Not the comments and blank lines behind it, which the parser counts in."""
    assert span(text, "a") == expected


@pytest.mark.parametrize(
    ("text", "path", "before"),
    [
        ("a:\nb: c\n", "a", "a:"),
        ("a:   # d\n\nb: c\n", "a", "a:"),
        ("'a' :\nb: c\n", "a", "'a' :"),
        ("b: {a: , c: d}\n", "ba", "b: {a:"),
        ("b: {a, c: d}\n", "ba", "b: {a"),
        ("? a\n", "a", "? a"),
        ("b: &k a\n*k :\nc: d", "a", "b: &k a\n*k :"),
    ],
)
def test_an_absent_value_stands_behind_its_colon(text: str, path: str, before: str) -> None:
    node = at(text, *path)

    assert isinstance(node, Scalar)
    assert node.is_null
    assert (node.start, node.end) == (len(before), len(before))


def test_what_may_stand_elsewhere_too_is_marked() -> None:
    text = "a: &x {b: c}\nd: *x\ne: !!map {f: g}\nh: {i: j}\n"

    assert [at(text, name).marked for name in "adeh"] == [True, True, True, False]


def test_what_a_map_merges_is_told_from_what_it_says_itself() -> None:
    node = at("x: &x {a: 1, b: 2}\ny:\n  b: 3\n  <<: *x\n  c: 4\n", "y")

    assert isinstance(node, Mapping)
    assert [key.text for key, _ in node.entries] == ["b", "c", "a"]
    assert node.own == 2


@pytest.mark.parametrize(("text", "flow"), [("[a]", True), ("- a", False), ("{a: b}", True)])
def test_brackets_are_told_from_lines(text: str, flow: bool) -> None:
    node = parse_document(text)

    assert isinstance(node, Mapping | Sequence)
    assert node.flow is flow
