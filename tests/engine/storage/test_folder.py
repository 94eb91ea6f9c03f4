"""OPS-04: what is kept lies where nobody else could have put it, or could change it."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from tport.engine.errors import ConfigError
from tport.engine.storage.folder import check_folder, locked_folder

SERVICE, OTHER = 4321, 4322  # users that nobody is

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    return path


def use(data: Path) -> None:
    check_folder(data / "auth")
    with locked_folder(data / "auth"):
        assert (data / "auth" / ".lock").is_file()


def refusal(data: Path) -> ConfigError:
    """Return what is said, by the start and by who looks before; nothing was made then."""
    before = sorted(data.rglob("*"))
    with pytest.raises(ConfigError) as told, locked_folder(data / "auth"):
        pass
    with pytest.raises(ConfigError) as foretold:
        check_folder(data / "auth")
    assert sorted(data.rglob("*")) == before
    assert (str(foretold.value), foretold.value.hint) == (str(told.value), told.value.hint)
    return told.value


def test_what_is_made_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        use(tmp_path / "above" / "data")
    finally:
        os.umask(old)

    for made in (tmp_path / "above" / "data", tmp_path / "above" / "data" / "auth"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    use(tmp_path / "above" / "data")


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750, 0o2750])
def test_a_folder_that_its_owner_alone_may_write_is_used(data: Path, mode: int) -> None:
    data.chmod(mode)
    use(data)


@pytest.mark.parametrize("mode", [0o777, 0o707])
@pytest.mark.parametrize("name", ["data", "auth"])
def test_a_folder_that_everybody_may_write_is_refused(data: Path, name: str, mode: int) -> None:
    place = {"data": data, "auth": data / "auth"}[name]
    place.mkdir(exist_ok=True)
    place.chmod(mode)

    refused = refusal(data)
    assert "written by others" in str(refused)
    assert refused.hint == f"chmod go-w {place}"


def test_nobody_is_told_to_close_a_folder_that_is_meant_for_everybody(data: Path) -> None:
    """As /tmp: whoever did so would break the machine."""
    data.chmod(0o1777)

    refused = refusal(data)
    assert "written by others" in str(refused)
    assert refused.hint.startswith("name another folder")


@as_root
@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_who_gets_a_volume_of_roots_for_everybody_is_told_to_use_a_folder_in_it(
    data: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """As volumes of containers are, of which only root changes the mode; that folder is taken."""
    data.chmod(mode)
    data.parent.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: SERVICE)
    monkeypatch.setattr(os, "getegid", lambda: SERVICE)

    refused = refusal(data)
    assert "written by others" in str(refused)
    assert refused.hint.startswith("let data_dir be a folder below it")
    below = data / "tport"
    for made in (below, below / "auth"):
        made.mkdir(mode=0o700)
        os.chown(made, SERVICE, SERVICE)
    use(below)


def test_who_looks_before_makes_nothing(data: Path) -> None:
    check_folder(data / "above" / "data" / "auth")
    check_folder(data / "auth")

    assert list(data.iterdir()) == []


def test_a_folder_for_the_group_that_is_the_users_own_is_used(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Under umask 002, as users have it who are alone in their group, mkdir makes 775."""
    os.chown(data, -1, os.getegid())
    data.chmod(0o775)
    use(data)

    assert caplog.messages == []


@as_root
@pytest.mark.parametrize("owner", [0, SERVICE])
def test_a_folder_for_a_group_of_the_users_is_used_with_a_warning(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, owner: int
) -> None:
    """So volumes come where containers are run by many: root's or the user's, for a group of theirs."""
    os.chown(data, owner, 5000)
    data.chmod(0o2775)
    monkeypatch.setattr(os, "geteuid", lambda: SERVICE)
    monkeypatch.setattr(os, "getegid", lambda: SERVICE)
    monkeypatch.setattr(os, "getgroups", lambda: [5000])
    (data / "auth").mkdir()
    os.chown(data / "auth", SERVICE, SERVICE)
    with caplog.at_level(logging.WARNING):
        use(data)

    [said] = caplog.messages
    assert f"chmod g-w {data}" in said
    assert check_folder(data / "auth") == [said]


@as_root
def test_a_folder_for_a_group_of_others_is_refused(data: Path) -> None:
    os.chown(data, -1, 5000)
    data.chmod(0o770)

    assert "written by others" in str(refusal(data))


@as_root
@pytest.mark.parametrize("name", ["data", "auth"])
def test_a_folder_of_another_user_is_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (data / "auth").mkdir()
    for place in (data, data / "auth"):
        os.chown(place, OTHER if place.name == name else SERVICE, -1)
    monkeypatch.setattr(os, "geteuid", lambda: SERVICE)
    monkeypatch.setattr(os, "getegid", lambda: SERVICE)

    refused = refusal(data)
    assert f"belongs to user {OTHER}" in str(refused)
    place = {"data": data, "auth": data / "auth"}[name]
    assert f"chown -R {SERVICE}:{SERVICE} {place}" in refused.hint


@as_root
def test_roots_folder_is_used_by_the_service_that_has_its_own_in_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a unit's StateDirectory may be, or a volume."""
    (data / "auth").mkdir()
    os.chown(data / "auth", SERVICE, -1)
    monkeypatch.setattr(os, "geteuid", lambda: SERVICE)
    use(data)


@as_root
def test_root_works_in_a_services_folder_where_root_or_the_service_put_it(data: Path) -> None:
    """`tport restore`, `tport db accept-rollback`."""
    os.chown(data, SERVICE, SERVICE)
    use(data)
    os.chown(data.parent, SERVICE, SERVICE)
    use(data)


@as_root
def test_root_is_told_to_close_a_services_folder_that_others_may_write(data: Path) -> None:
    os.chown(data, SERVICE, SERVICE)
    data.chmod(0o777)

    assert refusal(data).hint == f"chmod go-w {data}"


@as_root
@pytest.mark.parametrize(("owner", "mode"), [(OTHER, 0o755), (0, 0o777), (0, 0o1777)])
def test_root_works_in_no_folder_that_anybody_could_have_put_there(
    data: Path, owner: int, mode: int
) -> None:
    """In /tmp, say: everybody may have made it there first."""
    os.chown(data, SERVICE, SERVICE)
    os.chown(data.parent, owner, -1)
    data.parent.chmod(mode)

    assert f"belongs to user {SERVICE}" in str(refusal(data))


def test_a_data_directory_may_be_a_link_of_ones_own(data: Path) -> None:
    link = data.parent / "link"
    link.symlink_to(data)
    use(link)

    data.chmod(0o777)
    assert "written by others" in str(refusal(link))


@as_root
def test_a_link_of_another_user_is_no_data_directory(data: Path) -> None:
    link = data.parent / "link"
    link.symlink_to(data)
    os.lchown(link, OTHER, -1)

    assert "a link" in str(refusal(link))
    assert list(data.iterdir()) == []


@pytest.mark.parametrize("there", [True, False])
def test_a_services_own_folder_is_no_link(data: Path, there: bool) -> None:
    elsewhere = data.parent / "elsewhere"
    if there:
        elsewhere.mkdir()
    (data / "auth").symlink_to(elsewhere)

    assert "is a link" in str(refusal(data))
    assert not there or list(elsewhere.iterdir()) == []


def test_a_lock_that_is_a_link_makes_no_file_elsewhere(data: Path) -> None:
    (data / "auth").mkdir()
    (data / "auth" / ".lock").symlink_to(data.parent / "made")

    assert "is a link" in str(refusal(data))
    assert not (data.parent / "made").exists()
