"""What is released: it installs, runs, and leaves nothing behind; manual and completions say what the program does."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import pytest

from release.__main__ import ROOT, check_key, sign, write_sums
from release.__main__ import main as make_release
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
    assert files_below(prefix) == set()


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


@pytest.mark.parametrize("times", [1, 2])
def test_uninstall_takes_only_the_folders_that_install_made(
    archive: Path, tmp_path: Path, times: int
) -> None:
    """A fresh /usr/local has empty folders, which shells and man(1) look for."""
    prefix = tmp_path / "prefix"
    before = {"bin", "lib", "share", "share/man"}
    for folder in sorted(before):
        prefix.joinpath(folder).mkdir(parents=True)

    for _ in range(times):
        run(archive / "install", f"--prefix={prefix}")
    run(prefix / "lib" / "tport" / "uninstall")

    assert files_below(prefix) == before


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


@pytest.fixture
def rpm_of(tmp_path: Path, installed: Sequence[Entry]) -> Callable[[str, bytes], Path]:
    """Make the package of a version, whose /etc/tport.yaml ends with some words."""

    def made(version: str, words: bytes) -> Path:
        files = (
            Entry(each.path, (each.content or b"") + words, each.mode)
            if each.path == CONFIG
            else each
            for each in (*installed, *service())
        )
        path, work = tmp_path / f"tport-{version}.rpm", tmp_path / version
        write_rpm(path, files, work=work, version=version, machine="x86_64", when=WHEN)
        return path

    return made


@pytest.mark.parametrize("is_changed", [False, True], ids=["as it came", "changed"])
def test_the_operators_file_outlives_an_rpms_upgrade_and_its_removal(
    tmp_path: Path, rpm_of: Callable[[str, bytes], Path], is_changed: bool
) -> None:
    """Into an empty root, by files alone; tests/clean_root.sh runs what the package runs, too."""
    need("rpmbuild")
    if os.geteuid() != 0:
        pytest.skip("rpm --root asks for root")
    root = tmp_path / "root"
    data, config = root / "var" / "lib" / "tport", root / "etc" / "tport.yaml"
    data.mkdir(parents=True)

    def rpm(*words: str | Path) -> str:
        return run("rpm", f"--root={root}", "--dbpath=/rpmdb", *words)

    flags = ("--nodeps", "--noscripts")
    rpm("--install", *flags, rpm_of("1.2.3", b"# the first\n"))
    assert root.joinpath("usr/bin/tport").readlink() == Path("../lib/tport/tport")
    assert (config.stat().st_mode & 0o777) == 0o640
    if is_changed:
        config.write_text("# mine\n")

    told = rpm("--upgrade", *flags, rpm_of("1.2.4", b"# the second\n"))

    beside = config.with_name("tport.yaml.rpmnew")
    if is_changed:
        assert config.read_text() == "# mine\n"
        assert beside.read_text().endswith("# the second\n")
        assert "created as /etc/tport.yaml.rpmnew" in told
        beside.unlink()
    else:
        assert config.read_text().endswith("# the second\n")
    rpm("--erase", *flags, "tport")
    assert data.is_dir()
    left = {file for file in files_below(root) if not file.startswith("rpmdb")}
    expected = {"etc", "var", "var/lib", "var/lib/tport", "usr", "usr/bin", "usr/lib"}
    expected |= {"usr/lib/systemd", "usr/lib/systemd/system", "usr/share", "usr/share/doc"}
    expected |= {"usr/share/man", "usr/share/man/man1"}
    assert left - expected == ({"etc/tport.yaml.rpmsave"} if is_changed else set())


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
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tport", "-P", "-m", "tport", "version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capfd.readouterr().out.startswith(f"tport {__version__}")

    monkeypatch.setattr("sys.argv", ["tport", "-P", "-m", "http.server"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2


def test_as_one_file_the_command_ends_with_who_unpacked_it_and_workers_end_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker is a child of the main process, whose end it sees and tells; a signal would be quicker, and mute."""
    bound: list[int] = []
    monkeypatch.setattr("release.program._end_with", bound.append)
    monkeypatch.setattr("sys._MEIPASS", "/tmp/unpacked", raising=False)

    monkeypatch.setattr("sys.argv", ["tport", "-P", "-m", "tport", "version"])
    with pytest.raises(SystemExit):
        main()
    assert bound == []

    monkeypatch.setattr("sys.argv", ["tport", "version"])
    with pytest.raises(SystemExit):
        main()
    assert bound == [os.getppid()]


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


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """GnuPG's home with one secret key in it, made for the test; its path is short, for a socket's sake."""
    need("gpg")
    with tempfile.TemporaryDirectory() as home:
        monkeypatch.setenv("GNUPGHOME", home)
        flags = ("--batch", "--quiet", "--pinentry-mode=loopback", "--passphrase=")
        run("gpg", *flags, "--quick-generate-key", "Trial <trial@example.com>", "ed25519", "sign")
        yield
        run("gpgconf", "--kill", "all")


def checks_of_the_docs() -> list[list[str]]:
    """Return the commands by which docs/install.md has people judge what they downloaded."""
    section = ROOT.joinpath("docs/install.md").read_text().partition("## Is it genuine?")[2]
    lines = section.partition("\n## ")[0].splitlines()
    return [
        line.split() for line in lines if line.startswith(("    sha256sum", "    gpg --verify"))
    ]


def test_signed_sums_pass_the_checks_of_the_docs_and_changed_files_do_not(
    tmp_path: Path, keyring: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "tport-1.2.3-linux-x86_64"
    program.write_bytes(b"a program")
    check_key("trial@example.com")
    sums = write_sums(tmp_path)
    sign(sums, "trial@example.com")
    monkeypatch.chdir(tmp_path)
    check_sums, check_signature = checks_of_the_docs()

    assert f"{program.name}: OK" in run(*check_sums)
    assert "Good signature" in run(*check_signature)

    program.write_bytes(b"another program")
    run(*check_sums, status=1)
    sums.write_text(sums.read_text().replace("a", "b"))
    assert "BAD signature" in run(*check_signature, status=1)

    write_sums(tmp_path)
    assert not tmp_path.joinpath("SHA256SUMS.asc").exists(), "a signature of other sums"


def test_a_key_that_is_not_here_is_told_before_anything_is_built(
    tmp_path: Path, keyring: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("release.__main__.build", lambda *_: pytest.fail("built all the same"))

    with pytest.raises(SystemExit, match="no secret key 'nobody@"):
        make_release([str(tmp_path), "--sign=nobody@example.com"])

    assert list(tmp_path.iterdir()) == []


def test_no_path_of_a_package_is_outside_its_prefix(installed: Sequence[Entry]) -> None:
    for entry in installed:
        assert not entry.path.is_absolute()
        assert ".." not in PurePosixPath(entry.path).parts
