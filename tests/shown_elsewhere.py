"""The commands of the documents that no test runs as they stand there, each with why, or with where it is run instead.

Whatever isn't in these lists, `tests/e2e/test_shown_commands.py` runs. `tests/test_shown_commands.py` sees to it that they
hold nothing that is not shown any more, and that the tests which they name do what they are named for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tests.shown import Shown, all_shown, simple_commands, spellings

# program → what it needs that a test has not
PROGRAMS: Final[Mapping[str, str]] = {
    "apt": "root on Debian, and a machine that is nobody's",
    "chgrp": "the system user that the unit runs as",
    "dnf": "root on Fedora, and a machine that is nobody's",
    "git": "a tag that was released",
    "gpg": "a signature of a release; tests/test_release.py makes one, and checks it so",
    "jupyter-lab": "the application, which tests/e2e/test_real_apps.py starts with these options",
    "make": "the time of what it starts; its targets are looked up in the Makefile",
    "node-red": "the application itself, likewise",
    "pip": "a release at PyPI; the files that it is given are looked up",
    "pipx": "a release at PyPI",
    "podman": "containers; tests/e2e/test_container.py runs as processes what is in them",
    "prometheus": "the application itself, likewise",
    "python": "the time of the tests that it starts; their folders are looked up",
    ".venv/bin/python": "the same",
    "setpriv": "the system user that the unit runs as",
    "streamlit": "the application itself, likewise",
    "systemctl": "systemd as the first process",
    "useradd": "root, and a machine that is nobody's",
}

# What is done with the files of a release, of which there is none in a test. tests/test_release.py has what they are made of.
OF_A_RELEASE: Final = frozenset(
    {
        "sha256sum --check --ignore-missing SHA256SUMS",
        "curl -LO where-the-release-is/tport-version-linux-x86_64",
        "chmod +x tport-version-linux-x86_64",
        "./tport-version-linux-x86_64 up http://localhost:3000",
        "tar xzf tport-version-linux-x86_64-bin.tar.gz",
        "sudo tport-version-linux-x86_64-bin/install",
        "sudo /usr/local/lib/tport/uninstall",
    }
)

# command → the file of tests that runs it: with a browser or a terminal, on free ports, or with less to measure
TESTED: Final[Mapping[str, str]] = {
    "tport ca trust": "tests/e2e/test_scripts.py",
    "tport configure": "tests/e2e/test_configure.py",
    "tport configure --interactive": "tests/e2e/test_configure.py",
    "tport configure --proxy=tport.example.com --token=/tmp/token --app-name=grafana"
    " --app-uri=http://localhost:3000 --output=file": "tests/commands/test_configure.py",
    "tport db accept-rollback": "tests/security/test_storage.py",
    "tport --data-dir /var/lib/tport db accept-rollback": "tests/security/test_storage.py",
    "tport requests approve ID --role=ROLE": "tests/e2e/test_access_requests.py",
    "tport selftest": "tests/e2e/test_selftest.py",
    "tport sso test FILE": "tests/e2e/test_sso.py",
    "tport sso test google.yaml": "tests/e2e/test_sso.py",
    "tport start --roles=app --app-name=grafana": "tests/e2e/test_guide.py",
    "docs/acme.md: tport start --config=tport.yaml": "tests/e2e/test_acme.py",
    "tport tokens approve CODE": "tests/e2e/test_join.py",
    "tport up": "tests/e2e/test_browser.py",
    "tport up URI": "tests/e2e/test_apps_check.py",
    "tport up http://localhost:3000": "tests/e2e/test_apps_check.py",
    "tport up --port 3443": "tests/e2e/test_browser.py",
}


def typed() -> list[Shown]:
    """Return every command that is shown, in order, as it may be typed: with and without what may be left out."""
    return [replace(each, text=text) for each in all_shown() for text in spellings(each.text)]


def names_of(each: Shown) -> tuple[str, str]:
    """Return by what a command may stand in the lists: its words without remarks, and those of its page alone."""
    text = each.text.partition("  #")[0].strip()
    return text, f"{each.page}: {text}"


def runs_elsewhere(each: Shown) -> bool:
    """Whether one of the lists has it."""
    if any(name in TESTED or name in OF_A_RELEASE for name in names_of(each)):
        return True
    return any(words[0] in PROGRAMS for words in simple_commands(each.text))
