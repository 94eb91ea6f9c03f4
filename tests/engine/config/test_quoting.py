from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tport.engine.config.document import Scalar, Sequence, parse_document
from tport.engine.config.quoting import quoted, scalar

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text("aN0/.:-_~#&*!|>'\"%@` ,[]{}?=<+\\\n\t"),
    st.sampled_from(["yes", "NO", "null", "1", "1.5", "0x1f", "12:30:45", "2026-01-01", "<<", "="]),
)


@given(TEXTS)
@example("\N{GRINNING FACE}")
@example("\x85\u2028\ufeff")
def test_what_is_written_reads_as_the_same_text_wherever_it_stands(text: str) -> None:
    for written in (scalar(text), quoted(text)):
        for document in (f"- {written}\n", f"- {written}  # comment\r\n", f"[a, {written}]"):
            root = parse_document(document)
            assert isinstance(root, Sequence)
            node = root.items[-1]
            assert isinstance(node, Scalar)
            assert node.text == text
            assert not node.is_null


@given(TEXTS)
def test_no_reader_of_yaml_takes_it_for_anything_but_text(text: str) -> None:
    """Also by the rules of YAML 1.1, where `no` is false and 12:30 a number."""
    for version in ("1.1", "1.2"):
        assert YAML(typ="safe", pure=True).load(f"%YAML {version}\n---\n- {scalar(text)}") == [text]


@pytest.mark.parametrize(
    "text",
    ["grafana", "http://localhost:3000", "/etc/tport/ca.pem", "Day to day", "it's", "x (y)"],
)
def test_what_needs_no_quotes_has_none(text: str) -> None:
    assert scalar(text) == text
