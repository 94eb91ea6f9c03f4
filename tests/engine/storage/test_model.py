"""Any sequence of operations leaves every backend, and its watchers, where a plain dict would be."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.storage.queued import receive_all
from tests.fakes import START, WallClock
from tport.engine.errors import TportError
from tport.engine.storage.backend import (
    Backend,
    Check,
    CompareAndSwap,
    Create,
    Delete,
    Deleted,
    Item,
    Operation,
    Put,
)
from tport.engine.storage.memory import open_memory_backend
from tport.engine.storage.sqlite import open_sqlite_backend


@dataclass
class Model:
    """The promise in a few lines: who fails, and what is there afterwards."""

    items: dict[str, Item] = field(default_factory=dict)
    revision: int = 0

    def expire(self, clock: WallClock) -> None:
        for key, item in list(self.items.items()):
            if item.expires is not None and item.expires <= clock.now:
                del self.items[key]

    def may(self, operation: Operation) -> bool:
        there = self.items.get(operation.key)
        match operation:
            case Create():
                return there is None
            case CompareAndSwap(item):
                return there is not None and there.revision == item.revision
            case Delete(_, revision):
                return there is not None and revision in (None, there.revision)
            case Check(_, revision):
                return (there.revision if there else 0) == revision
            case Put():
                return True

    def apply(self, operations: Sequence[Operation]) -> bool:
        if not all(self.may(operation) for operation in operations):
            return False
        if any(not isinstance(operation, Check) for operation in operations):
            self.revision += 1
        for operation in operations:
            match operation:
                case Create(item) | Put(item) | CompareAndSwap(item):
                    self.items[item.key] = Item(item.key, item.value, item.expires, self.revision)
                case Delete(key):
                    del self.items[key]
        return True


keys = st.sampled_from(["/a", "/a/b", "/b", "/é"])
revisions = st.integers(0, 6)  # small, so that many are right
items = st.builds(
    Item,
    keys,
    st.binary(max_size=3),
    st.none() | st.integers(1, 5).map(lambda minutes: START + timedelta(minutes=minutes)),
    revisions,
)
operations = st.one_of(
    st.builds(Create, items),
    st.builds(Put, items),
    st.builds(CompareAndSwap, items),
    st.builds(Delete, keys, st.none() | revisions),
    st.builds(Check, keys, revisions),
)
batches = st.lists(operations, min_size=1, max_size=3, unique_by=lambda operation: operation.key)
steps = st.lists(batches | st.just("a minute") | st.just("sweep"), max_size=20)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@settings(max_examples=60)
@given(steps=steps)
def test_it_is_always_where_a_dict_would_be(kind: str, steps: list[list[Operation] | str]) -> None:
    async def main() -> None:
        clock, model = WallClock(), Model()
        async with AsyncExitStack() as stack:
            backend: Backend
            if kind == "memory":
                backend = await stack.enter_async_context(open_memory_backend(clock))
            else:
                path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "state.db"
                backend = await stack.enter_async_context(open_sqlite_backend(path, clock))
            changes = await stack.enter_async_context(backend.watch("/"))
            for step in steps:
                if step == "a minute":
                    clock.now += timedelta(minutes=1)
                elif step == "sweep":
                    model.revision += bool(await backend.sweep())
                else:
                    assert not isinstance(step, str)
                    model.expire(clock)
                    assert await _try(backend, step) == model.apply(step)
                model.expire(clock)
                assert await backend.range("/") == [model.items[key] for key in sorted(model.items)]

            await backend.sweep()
            seen: dict[str, Item] = {}
            told = []
            for change in await receive_all(changes):
                match change:
                    case Put(item):
                        seen[item.key] = item
                        told.append(item.revision)
                    case Deleted(key, revision):
                        del seen[key]
                        told.append(revision)
            assert told == sorted(told)
            assert seen == model.items

    trio.run(main)


async def _try(backend: Backend, operations: list[Operation]) -> bool:
    try:
        await backend.batch(operations)
    except TportError:
        return False
    return True
