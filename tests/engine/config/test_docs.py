from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, get_args, get_origin

import msgspec
import pytest

from tests.engine.config.places import read
from tport.engine.config.file import File, Section

TEXT = Path(__file__).parents[3].joinpath("docs", "configuration.md").read_text()
ROW = re.compile(r"^\| `([^`]+)` \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)


def settings(kind: type[Section], path: str) -> Iterator[str]:
    """Yield every setting of the file, as in `app_service.apps[].name`."""
    for field in msgspec.structs.fields(kind):
        type_ = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
        item = get_args(type_)[0] if get_origin(type_) is tuple else type_
        here = f"{path}.{field.name}" if path else field.name
        if here == "teleport":
            continue  # `tport` by its other name
        if isinstance(item, type) and issubclass(item, Section):
            yield from settings(item, here if item is type_ else f"{here}[]")
        else:
            yield here


def test_every_setting_is_documented_and_no_other() -> None:
    """With what it means, its default and an example: a row of four."""
    documented = [row[1] for row in ROW.finditer(TEXT) if row[1] != "setting"]

    assert sorted(documented) == sorted(settings(File, ""))


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.+?)```", TEXT, re.DOTALL))
def test_the_documented_files_load(text: str) -> None:
    config = read(text)

    assert config.notes == ()
    assert config.app_service.faulty == ()
