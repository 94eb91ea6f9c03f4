"""What is released: it installs, runs, and leaves nothing behind; manual and completions say what the program does."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pytest

from release.__main__ import ROOT, write_sums
from release.deb import ARCHITECTURES, write_deb
from release.manual import SHELLS, completion, manual_pages
from release.program import main
from release.rpm import write_rpm
from release.tarball import write_tarball
from release.tree import CONFIG, Entry, frozen_files, service, words
from tests.test_docs import commands
from tests.test_examples import need
from tport import __version__
from tport.cli import BUILT_IN
from tport.engine.config.load import load_config

WHEN = 1_700_000_000  # before now: what is newer is given this time, by dpkg-deb, too
NAME = "tport-1.2.3-linux-x86_64-bin"


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as PyInstaller makes one, with a program that is a script."""
    folder = tmp_path_factory.mktemp("frozen") / "tport"
    inside = folder / "_internal"
    inside.mkdir(parents=True)
    inside.joinpath("base_library.zip").write_bytes(b"PK")
    program = folder / "tport"
    program.write_text('#!/bin/sh\n[ -e "${0%/*}" ] && echo "tport 1.2.3"\n')
    program.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def installed(frozen: Path) -> Sequence[Entry]:
    return [*frozen_files(frozen), *words(ROOT)]


@pytest.fixture
def archive(tmp_path: Path, installed: Sequence[Entry]) -> Path:
    """The archive, unpacked."""
    packed = tmp_path / "packed.tar.gz"
    write_tarball(packed, NAME, installed, WHEN)
    with tarfile.open(packed) as file:
        file.extractall(tmp_path, filter="tar")
    return tmp_path / NAME


def run(*command: str | Path, status: int = 0) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def files_below(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*")}


# --- The archive ----------------------------------------------------------------------------------


def test_the_archive_installs_runs_and_leaves_no_file_behind(archive: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"

    told = run(archive / "install", f"--prefix={prefix}")
    assert "installed tport 1.2.3" in told
    assert f'export PATH="{prefix}/bin:$PATH"' in told
    assert run(prefix / "bin" / "tport", "version") == "tport 1.2.3\n"
    assert prefix.joinpath("share/man/man1/tport-users.1").is_file()

    told = run(prefix / "lib" / "tport" / "uninstall")
    assert "/var/lib/tport" in told, "it says that data stays, and where"
    assert files_below(prefix) <= {"share"}


def test_installing_again_replaces_what_was_there(archive: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    run(archive / "install", f"--prefix={prefix}")
    prefix.joinpath("lib/tport/_internal/of-the-old-version").touch()

    run(archive / "install", f"--prefix={prefix}")

    assert not prefix.joinpath("lib/tport/_internal/of-the-old-version").exists()
    assert {"tport.old", "tport.new"}.isdisjoint(os.listdir(prefix / "lib"))


def test_other_peoples_files_under_the_prefix_stay(archive: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    others = [prefix / "bin" / "other", prefix / "share" / "man" / "man1" / "other.1"]
    for file in others:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    run(archive / "install", f"--prefix={prefix}")
    run(prefix / "lib" / "tport" / "uninstall")

    assert all(file.exists() for file in others)


@pytest.mark.parametrize("word", ["--prefix=relative", "--prefix", "elsewhere"])
def test_a_word_that_means_nothing_installs_nothing(archive: Path, word: str) -> None:
    assert "usage: ./install" in run(archive / "install", word, status=2)


def test_a_program_that_does_not_run_here_is_not_installed(archive: Path, tmp_path: Path) -> None:
    archive.joinpath("lib/tport/tport").write_text("#!/bin/sh\nexit 126\n")

    told = run(archive / "install", f"--prefix={tmp_path / 'prefix'}", status=1)

    assert "glibc" in told
    assert not tmp_path.joinpath("prefix", "lib").exists()


def test_uninstall_elsewhere_removes_nothing(archive: Path) -> None:
    before = files_below(archive)

    assert "PREFIX/lib/tport/uninstall" in run(archive / "uninstall", status=2)
    assert files_below(archive) == before


def test_the_same_input_gives_the_same_archive(tmp_path: Path, installed: Sequence[Entry]) -> None:
    once, again = tmp_path / "once", tmp_path / "again"
    write_tarball(once, NAME, installed, WHEN)
    write_tarball(again, NAME, installed, WHEN)

    assert once.read_bytes() == again.read_bytes()


def test_the_scripts_are_clean_shell() -> None:
    scripts = [*ROOT.glob("release/files/*install"), *ROOT.glob("release/files/deb/*")]
    assert len(scripts) == 5
    need("shellcheck")
    run("shellcheck", *scripts)


# --- Packages -------------------------------------------------------------------------------------


def test_the_debian_package_holds_program_unit_and_a_file_of_the_operators(
    tmp_path: Path, installed: Sequence[Entry]
) -> None:
    need("dpkg-deb")
    path = tmp_path / "tport.deb"
    for number in range(2):
        write_deb(
            tmp_path / f"{number}.deb",
            [*installed, *service()],
            work=tmp_path / str(number),
            version="1.2.3",
            machine="x86_64",
            when=WHEN,
        )
    shutil.copy(tmp_path / "0.deb", path)
    assert path.read_bytes() == tmp_path.joinpath("1.deb").read_bytes()

    listed = run("dpkg-deb", "--contents", path)
    assert " ./usr/bin/tport -> ../lib/tport/tport" in listed
    assert " ./usr/lib/systemd/system/tport.service" in listed
    assert "-rw-r----- root/root" in listed, "who may read the file is told by its group"
    unpacked = tmp_path / "unpacked"
    run("dpkg-deb", "--raw-extract", path, unpacked)
    assert unpacked.joinpath("DEBIAN/conffiles").read_text() == f"{CONFIG}\n"
    unit = unpacked.joinpath("usr/lib/systemd/system/tport.service").read_text()
    assert "ExecStart=/usr/bin/tport start --config=/etc/tport.yaml" in unit
    assert run("dpkg-deb", "--field", path, "Architecture").strip() == ARCHITECTURES["x86_64"]


def test_the_rpm_holds_program_unit_and_a_file_of_the_operators(
    tmp_path: Path, installed: Sequence[Entry]
) -> None:
    need("rpmbuild")
    path = tmp_path / "tport.rpm"
    write_rpm(
        path,
        [*installed, *service()],
        work=tmp_path / "work",
        version="1.2.3",
        machine="x86_64",
        when=WHEN,
    )

    listed = run("rpm", "-qlp", path).splitlines()
    assert {"/usr/bin/tport", "/usr/lib/systemd/system/tport.service"} <= set(listed)
    assert str(CONFIG) in run("rpm", "-q", "--configfiles", "-p", path)
    assert "useradd --system" in run("rpm", "-q", "--scripts", "-p", path)


def test_the_file_of_a_package_is_one_that_tport_takes(tmp_path: Path) -> None:
    file = tmp_path / "tport.yaml"
    file.write_bytes(next(e.content or b"" for e in service() if e.path == CONFIG))

    config = load_config(file)

    assert config.auth_service.enabled
    assert config.proxy_service.enabled
    assert not config.app_service.enabled
    assert str(config.data_dir) == "/var/lib/tport"


# --- Manual and completions -----------------------------------------------------------------------


def test_every_command_and_option_is_in_the_manual() -> None:
    pages = {name: text.replace("\\-", "-") for name, text in manual_pages()}

    assert set(pages) == {"tport.1", *(f"tport-{name}.1" for name in BUILT_IN)}
    for path, command in commands():
        page = pages["-".join(path.split()[:2]) + ".1"]
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                for word in (*parameter.opts, *parameter.secondary_opts):
                    assert f"\\fB{word}\\fR" in page, (path, word)


def test_troff_takes_the_manual_without_a_word(tmp_path: Path) -> None:
    need("groff")
    for name, text in manual_pages():
        tmp_path.joinpath(name).write_text(text)

    pages = sorted(tmp_path.glob("*.1"))
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", *pages], capture_output=True, text=True, check=True
    )

    assert done.stderr == ""
    assert "tport 3000" not in done.stdout
    assert __version__ in done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_completion(shell: str) -> None:
    script = completion(shell)  # type: ignore[arg-type]  # one of SHELLS

    assert f"complete_{shell}" in script


# --- The program, and the sums --------------------------------------------------------------------


def test_the_frozen_program_is_the_interpreter_of_tports_own_modules_and_of_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tport", "-P", "-m", "tport", "version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"tport {__version__}")

    monkeypatch.setattr("sys.argv", ["tport", "-P", "-m", "http.server"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2


def test_the_sums_are_what_sha256sum_checks(tmp_path: Path) -> None:
    tmp_path.joinpath("a file").write_bytes(b"a")
    tmp_path.joinpath("b").write_bytes(b"b")

    write_sums(tmp_path)
    write_sums(tmp_path)  # once more, over its own

    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert done.stdout.count(b": OK") == 2


def test_no_path_of_a_package_is_outside_its_prefix(installed: Sequence[Entry]) -> None:
    for entry in installed:
        assert not entry.path.is_absolute()
        assert ".." not in PurePosixPath(entry.path).parts
