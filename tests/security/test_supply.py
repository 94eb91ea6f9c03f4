"""What tport is made of is pinned, looked at, listed, and built the same by everybody."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.supply.audit import AUDITED, OSV, PROBE, NoAnswer, audit, every_pin, read_report
from tests.supply.pins import LOCKS, ROOT, read_lock
from tests.supply.sbom import parts_of_tport

PROJECT: Final[Mapping[str, Any]] = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())
GROUPS: Final[Mapping[str, list[str]]] = PROJECT["dependency-groups"]
OWN: Final[list[str]] = PROJECT["project"]["dependencies"]
WANTED: Final[Mapping[str, list[str]]] = {
    "tport.txt": OWN,
    "build.txt": PROJECT["build-system"]["requires"] + GROUPS["build"],
    "dev.txt": OWN + GROUPS["test"] + GROUPS["lint"] + GROUPS["build"] + GROUPS["supply"],
    "fuzz.txt": GROUPS["fuzz"],
    "freeze.txt": GROUPS["freeze"],
    "site.txt": GROUPS["site"],
}

# What OSV says of a release with a hole, shortened.
ADVISORY: Final = {
    "id": "GHSA-vqfr-h8mv-ghfj",
    "aliases": ["CVE-2025-43859"],
    "summary": "h11 accepts some malformed Chunked-Encoding bodies",
    "affected": [
        {
            "package": {"name": "h11", "ecosystem": "PyPI", "purl": "pkg:pypi/h11"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "0.16.0"}]}],
        }
    ],
    "schema_version": "1.6.0",
}

Query = Mapping[str, Any]


@contextmanager
def osv(answer: Callable[[Query], object]) -> Iterator[str]:
    """Serve as OSV does, on this machine; yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["content-length"])))
            body = json.dumps(answer(query)).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def knows_h11(query: Query) -> object:
    """What OSV answers about h11 0.14.0, and that nothing is known against anything else."""
    asked = (query["package"]["name"], query["version"])
    return {"vulns": [ADVISORY]} if asked == ("h11", "0.14.0") else {}


def knows_nothing(query: Query) -> object:
    return {}


def run_audit(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.supply.audit", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )


# --- The locks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", WANTED)
def test_every_requirement_is_pinned_to_a_release_that_it_allows(lock: str) -> None:
    """OPS-09: `make lock` after a change of pyproject.toml."""
    pins = {pin.name: pin for pin in read_lock(LOCKS / lock)}

    wrong = [
        wanted
        for wanted in map(Requirement, WANTED[lock])
        if (pin := pins.get(canonicalize_name(wanted.name))) is None
        or not wanted.specifier.contains(pin.version)
    ]

    assert wrong == []


@pytest.mark.parametrize("lock", sorted(each.name for each in LOCKS.glob("*.txt")))
def test_every_pin_says_by_hashes_which_files_it_means(lock: str) -> None:
    """OPS-09."""
    pins = read_lock(LOCKS / lock)

    assert pins
    bad = [
        pin.name
        for pin in pins
        if not pin.hashes
        or any(
            len(bytes.fromhex(each.removeprefix("sha256:"))) != hashlib.sha256().digest_size
            for each in pin.hashes
        )
    ]
    assert bad == []


def test_no_two_locks_name_different_releases_of_one_package() -> None:
    """OPS-09: what tests run with is what people get."""
    names = [pin.name for pin in every_pin(AUDITED)]

    assert len(names) == len(set(names))


def test_what_runs_here_is_what_the_lock_names() -> None:
    """OPS-09: a test that passes says something of these releases alone."""
    pins = [pin for pin in read_lock(LOCKS / "dev.txt") if pin.is_for_this_python]

    assert {pin.name: version(pin.name) for pin in pins} == {pin.name: pin.version for pin in pins}


@pytest.mark.parametrize("folder", ["node-red", "oidc-provider", "pages"])
def test_packages_from_npm_are_pinned_by_hashes_too(folder: str) -> None:
    """OPS-09: but for what lies in another package's file, whose hash holds it."""
    lock = json.loads(LOCKS.joinpath(folder, "package-lock.json").read_text())
    wanted = json.loads(LOCKS.joinpath(folder, "package.json").read_text())

    assert lock["packages"].pop("")["dependencies"] == wanted["dependencies"]
    assert lock["packages"]
    assert [
        name
        for name, each in lock["packages"].items()
        if "integrity" not in each and "inBundle" not in each
    ] == []


def test_nothing_is_installed_but_by_a_lock() -> None:
    """OPS-09: neither for people who build it, nor in CI.

    What tport is measured beside is no part of either, and the document says that it isn't locked.
    """
    assert "`bench/deps.sh`" in ROOT.joinpath("docs", "supply.md").read_text()
    scripts = [ROOT / "Makefile", ROOT / "tests" / "deps.sh", *ROOT.joinpath(".ci").iterdir()]
    lines = [
        line.strip()
        for script in scripts
        for line in script.read_text().replace("\\\n", " ").splitlines()
        if "pip install" in line or "npm install" in line
    ]

    assert len(lines) >= 3
    assert [
        line
        for line in lines
        if "--require-hashes" not in line
        and "--no-deps --no-build-isolation -e ." not in line
        and "--package-lock-only" not in line
    ] == []


# --- What is known against them ----------------------------------------------------------------


def test_a_release_with_a_known_hole_in_a_lock_fails(tmp_path: Path) -> None:
    """OPS-09, G13: h11 0.14.0 instead of what is locked, everything else as it is."""
    text = LOCKS.joinpath("tport.txt").read_text()
    [now] = [pin for pin in read_lock(LOCKS / "tport.txt") if pin.name == "h11"]
    bad = tmp_path / "tport.txt"
    bad.write_text(text.replace(f"h11=={now.version}", "h11==0.14.0"))

    with osv(knows_h11) as url:
        found, clean = run_audit(f"--osv-url={url}", bad), run_audit(f"--osv-url={url}")

    assert found.returncode == 1
    assert "h11 0.14.0: CVE-2025-43859, mended in 0.16.0" in found.stderr
    assert clean.returncode == 0
    assert f"{len(every_pin(AUDITED))} releases, 0 advisories" in clean.stderr


def test_a_service_that_knows_no_hole_is_not_taken_for_an_all_clear() -> None:
    """OPS-09: as a mirror of an index answers, or a service without its data. CI goes on, a release doesn't."""
    with osv(knows_nothing) as url:
        relaxed, strict = run_audit(f"--osv-url={url}"), run_audit("--strict", f"--osv-url={url}")

    for done in (relaxed, strict):
        assert "NOT DONE: no service of advisories can be had from here" in done.stderr
        assert "0 advisories" not in done.stderr
    assert (relaxed.returncode, strict.returncode) == (0, 2)


def test_where_no_service_can_be_reached_that_is_said_loudly() -> None:
    """OPS-09."""
    with osv(knows_nothing) as url:
        pass  # whoever listened there is gone

    done = run_audit(f"--osv-url={url}")

    assert done.returncode == 0
    assert "NOT DONE: no service of advisories can be had from here" in done.stderr


def test_a_service_that_falls_silent_half_way_is_not_believed_and_the_next_is_asked() -> None:
    """OPS-09."""
    answered: list[Query] = []

    def tired(query: Query) -> object:
        answered.append(query)
        return knows_h11(query) if len(answered) == 1 else {"vulns": "later"}

    say = io.StringIO()
    with osv(tired) as first, osv(knows_h11) as second:
        services = [(*OSV, f"--osv-url={url}") for url in (first, second)]
        is_clean = audit(services, [PROBE], say)

    assert is_clean is False
    assert f"no use of --vulnerability-service=osv --osv-url={first}" in say.getvalue()


def test_a_release_that_the_service_never_heard_of_is_no_answer() -> None:
    """OPS-09: pip-audit passes over what PyPI answers "not found" about, with status 0."""
    report = {"dependencies": [{"name": "h11", "skip_reason": "not found"}], "fixes": []}

    with pytest.raises(NoAnswer, match="not found"):
        read_report(json.dumps(report), "")


# --- The list of parts -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` makes of the last commit."""
    return make_dist(tmp_path_factory.mktemp("dist"))


def make_dist(folder: Path, *, umask: int = 0o022, **env: str) -> Path:
    if not ROOT.joinpath(".git").exists():
        pytest.skip("no git here: what is released is built from a commit")
    subprocess.run(
        [ROOT / ".ci" / "make-dist", folder],
        env={**os.environ, **env},
        umask=umask,
        capture_output=True,
        timeout=250,
        check=True,
    )
    return folder


def test_the_list_of_parts_names_what_the_lock_does_with_hashes_and_licenses(built: Path) -> None:
    """OPS-09, G39: CycloneDX, valid, and about this version of tport."""
    [file] = built.glob("*.cdx.json")
    parts = json.loads(file.read_text())
    pins = {pin.name: pin for pin in read_lock(LOCKS / "tport.txt") if pin.is_for_this_python}

    schema: Any = import_module("cyclonedx.schema").SchemaVersion.V1_6
    validator: Any = import_module("cyclonedx.validation.json").JsonStrictValidator(schema)
    assert validator.validate_str(file.read_text()) is None
    about = parts["metadata"]["component"]
    assert (about["name"], about["purl"]) == ("tport", f"pkg:pypi/tport@{version('tport')}")
    listed = {canonicalize_name(each["name"]): each for each in parts["components"]}
    assert listed.keys() == pins.keys()
    for name, each in listed.items():
        assert each["version"] == pins[name].version
        assert each["licenses"], name
        [files] = [ref for ref in each["externalReferences"] if "hashes" in ref]
        assert {f"sha256:{one['content']}" for one in files["hashes"]} == set(pins[name].hashes)


def test_the_list_says_who_needs_what_and_names_no_tool_of_tests(built: Path) -> None:
    """G39."""
    [file] = built.glob("*.cdx.json")
    parts = json.loads(file.read_text())
    needs = {
        each["ref"]: {ref.partition("==")[0] for ref in each.get("dependsOn", ())}
        for each in parts["dependencies"]
    }
    direct = {canonicalize_name(name) for name in needs[parts["metadata"]["component"]["bom-ref"]]}

    assert direct == {canonicalize_name(Requirement(each).name) for each in WANTED["tport.txt"]}
    assert "pytest" not in file.read_text()
    refs = {each["bom-ref"] for each in parts["components"]}
    assert {f"{ref}" for each in parts["dependencies"] for ref in each.get("dependsOn", ())} <= refs


def test_no_list_is_made_of_what_isnt_locked() -> None:
    """G39: better none than a wrong one."""
    document = {
        "metadata": {"component": {"name": "tport", "bom-ref": "root"}},
        "components": [{"name": "h11", "version": "0.14.0", "bom-ref": "h11"}],
        "dependencies": [],
    }

    with pytest.raises(ValueError, match=r"is locked, and 0\.14\.0 installed"):
        parts_of_tport(
            document, [pin for pin in read_lock(LOCKS / "tport.txt") if pin.name == "h11"], "1"
        )


# --- What is built -----------------------------------------------------------------------------


def test_two_builds_of_a_commit_are_the_same_to_the_byte(built: Path, tmp_path: Path) -> None:
    """OPS-09, G39: in other folders, at another time, with another umask, language and time zone."""
    temporary = tmp_path / "elsewhere" / "deeper"
    temporary.mkdir(parents=True)
    again = make_dist(
        tmp_path / "again",
        umask=0o077,
        TMPDIR=str(temporary),
        TZ="Asia/Tokyo",
        LC_ALL="C",
        PYTHONHASHSEED="7",
        SOURCE_DATE_EPOCH="1",
    )

    assert hashes(again) == hashes(built)
    assert len(hashes(built)) == 4
    assert list(temporary.iterdir()) == []


def hashes(folder: Path) -> Mapping[str, str]:
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in folder.iterdir()}


def test_every_file_that_is_built_is_as_old_as_the_commit(built: Path) -> None:
    """OPS-09: nothing there comes from the clock, the builder's name, or their umask."""
    told = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    [sdist], [wheel] = built.glob("*.tar.gz"), built.glob("*.whl")

    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert {member.mtime for member in members} == {int(told.stdout)}
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {
        (0, 0, "", "")
    }
    with zipfile.ZipFile(wheel) as packed:
        assert len({info.date_time for info in packed.infolist()}) == 1
        assert {info.external_attr >> 16 & 0o777 for info in packed.infolist()} <= {0o644, 0o755}


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")
def test_who_got_the_files_can_check_them_by_the_list_of_hashes(
    built: Path, tmp_path: Path
) -> None:
    """G39: as docs/supply.md says; and one that was touched is found."""
    got = shutil.copytree(built, tmp_path / "got")
    check = ["sha256sum", "--check", "SHA256SUMS"]
    good = subprocess.run(check, cwd=got, capture_output=True, text=True, check=False)

    [wheel] = got.glob("*.whl")
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    bad = subprocess.run(check, cwd=got, capture_output=True, text=True, check=False)

    assert (good.returncode, good.stdout.count("OK")) == (0, 3)
    assert bad.returncode != 0
    assert f"{wheel.name}: FAILED" in bad.stdout
