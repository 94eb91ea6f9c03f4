"""What a unit can't be made of. What systemd makes of one is tested with the program."""

from __future__ import annotations

import pytest

from tport.engine.config.systemd_unit import Unit, unit_text
from tport.engine.errors import InvalidRequest


def unit(data_dir: str, program: str = "/usr/bin/tport") -> str:
    return unit_text(Unit(program=program, config_file="/etc/tport.yaml", data_dir=data_dir))


@pytest.mark.parametrize("folder", ["/tmp", "/tmp/tport", "/var/tmp/a/b", "/var/../tmp/a"])
def test_data_in_the_units_own_tmp_would_not_outlive_a_stop(folder: str) -> None:
    """PrivateTmp= gives it one that is empty at each start."""
    with pytest.raises(InvalidRequest, match="empties it") as refused:
        unit(folder)
    assert "data_dir" in refused.value.hint


@pytest.mark.parametrize("folder", ["/", "/etc", "/usr", "/var", "/var/lib", "/home", "/srv/.."])
def test_a_folder_of_the_systems_is_no_data_directory(folder: str) -> None:
    """To write there would be to write nearly everywhere."""
    with pytest.raises(InvalidRequest, match="belongs to the system"):
        unit(folder)


@pytest.mark.parametrize("folder", ["/var/lib/tport", "/srv/tport", "/home/alice/tport", "/data"])
def test_any_other_folder_is(folder: str) -> None:
    assert "StateDirectory=tport" in unit(folder) or f"ReadWritePaths={folder}" in unit(folder)


def test_no_path_adds_a_line() -> None:
    with pytest.raises(InvalidRequest, match="no line break"):
        unit("/srv/tport", program="/usr/bin/tport\nUser=root")
