"""What runs is cut when, and only when, what allowed it is gone."""

from __future__ import annotations

from tport.engine.api.live import LiveStreams


def test_only_what_the_verdict_is_against_is_cut() -> None:
    live: LiveStreams[str] = LiveStreams()
    cut: list[tuple[str, str]] = []

    with (
        live.hold("a", lambda why: cut.append(("a1", why))),
        live.hold("a", lambda why: cut.append(("a2", why))),
        live.hold("b", lambda why: cut.append(("b", why))),
    ):
        assert live.judge({"a": "ended"}.get) == 2
        assert sorted(cut) == [("a1", "ended"), ("a2", "ended")]


def test_each_key_is_judged_once_however_many_streams_it_has() -> None:
    live: LiveStreams[str] = LiveStreams()
    judged: list[str] = []

    def verdict(key: str) -> str | None:
        judged.append(key)
        return None

    with live.hold("a", lambda _: None), live.hold("a", lambda _: None):
        live.judge(verdict)

    assert judged == ["a"]


def test_a_stream_is_cut_at_most_once() -> None:
    live: LiveStreams[str] = LiveStreams()
    cut: list[str] = []
    with live.hold("a", cut.append):
        assert live.cut("a", "first") == 1
        assert live.cut("a", "second") == 0
        assert live.judge(lambda _: "third") == 0

    assert cut == ["first"]


def test_what_ended_by_itself_is_held_no_more() -> None:
    live: LiveStreams[str] = LiveStreams()
    cut: list[str] = []
    with live.hold("a", cut.append):
        assert ("a" in live, len(live), live.held()) == (True, 1, ["a"])

    assert ("a" in live, len(live), live.held()) == (False, 0, [])
    assert live.judge(lambda _: "late") == 0


def test_one_begun_after_a_cut_under_the_same_key_is_its_own() -> None:
    """The cut stream is still on its way out while the next begins."""
    live: LiveStreams[str] = LiveStreams()
    cut: list[str] = []
    first = live.hold("a", lambda why: cut.append(f"first {why}"))
    first.__enter__()
    live.cut("a", "ended")
    with live.hold("a", lambda why: cut.append(f"second {why}")):
        first.__exit__(None, None, None)

        assert "a" in live
        live.cut("a", "again")

    assert cut == ["first ended", "second again"]
