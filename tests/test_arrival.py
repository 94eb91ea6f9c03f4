"""What is released, as people meet it: built once, then installed and used. `make torture` alone has the time.

TPORT_DIST=dist make torture PYTEST_ARGS=tests/test_arrival.py

tries what `make dist` has left in a folder; without TPORT_DIST it is built first, of the last commit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

import pytest

from tests.figures import Hold
from tests.test_cli import cpu_of
from tests.test_examples import need

pytestmark = [pytest.mark.torture, pytest.mark.timeout(3600)]

ROOT: Final = Path(__file__).parents[1]
WALK: Final = ("tests/e2e/test_guide.py", "tests/e2e/test_workers.py")
MB: Final = 1_000_000


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if given := os.environ.get("TPORT_DIST"):
        return Path(given).resolve()
    folder = tmp_path_factory.mktemp("dist")
    for script in ("make-dist", "make-programs"):
        subprocess.run([ROOT / ".ci" / script, folder], check=True)
    return folder


@pytest.fixture(scope="module")
def one_file(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as one file, by the name that the guide calls it."""
    (program,) = (file for file in dist.glob("tport-*-linux-*") if file.suffix != ".gz")
    link = tmp_path_factory.mktemp("bin") / "tport"
    link.symlink_to(program)
    return link


@pytest.fixture(scope="module")
def unpacked(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of the archive."""
    folder = tmp_path_factory.mktemp("unpacked")
    (archive,) = dist.glob("tport-*-bin.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="tar")
    (program,) = folder.glob("*/lib/tport/tport")
    return program


def least_cpu(program: Path) -> float:
    """Return the CPU seconds of `version`, with all that it starts: the least of three runs."""
    return min(cpu_of([str(program), "version"]) for _ in range(3))


def test_the_guide_is_walked_and_workers_end_with_the_one_file(one_file: Path) -> None:
    """Each test of those files, whole: among them `kill -9` of the process that people see."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not torture", *WALK],
        cwd=ROOT,
        env=os.environ | {"TPORT_PROGRAM": str(one_file)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_the_programs_are_small_and_start_quickly(
    one_file: Path, unpacked: Path, hold: Hold
) -> None:
    hold("one file, size", one_file.stat().st_size / MB, "MB", at_most=45)
    hold("one file, CPU of `tport version`", least_cpu(one_file), "s", at_most=1)
    hold("archive, CPU of `tport version`", least_cpu(unpacked), "s", at_most=0.4)


def test_a_plug_ins_command_is_told_to_want_the_wheel(one_file: Path) -> None:
    done = subprocess.run([one_file, "hello"], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "use the wheel: pipx install tport" in done.stderr


def test_a_clean_debian_installs_serves_and_is_left_as_it_was(dist: Path) -> None:
    """Checksums, the archive, the packages, the guide's walkthrough: see the script."""
    for program in ("debootstrap", "curl", "ip"):
        need(program)
    if os.geteuid() != 0:
        pytest.skip("only root can make a root")
    done = subprocess.run(
        [ROOT / "tests" / "clean_root.sh", dist], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-4000:]
