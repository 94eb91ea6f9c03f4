"""What tport knows of applications: it is well-formed, recognised by their answers, and documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tport.engine.config.app_rules import check_uri
from tport.engine.config.known_apps import KnownApp, known_app, known_apps, recognise, usual_uri
from tport.engine.types.app import check_app_name

DOCUMENT = Path(__file__).parents[3] / "docs" / "known-applications.md"
Fields = list[tuple[bytes, bytes]]

each = pytest.mark.parametrize("known", known_apps(), ids=lambda known: known.name)


@each
def test_every_entry_is_well_formed(known: KnownApp) -> None:
    for name in (known.name, *known.aliases):
        assert check_app_name(name) == name
        assert known_app(name) is known
        assert check_uri(usual_uri(name)) == f"http://localhost:{known.port}"
    assert known.title
    assert known.header == known.header.lower()
    for path in filter(None, (known.websocket, known.events, known.path)):
        assert re.fullmatch(r"/[!-~]+", path)
    assert not known.path or known.path.endswith("/")
    assert not known.needs or re.fullmatch(r"[A-Z].*[a-z`)]\.", known.needs)


def test_every_name_means_one_application() -> None:
    names = [name for known in known_apps() for name in (known.name, *known.aliases)]

    assert len(names) == len(set(names))
    assert [known.name for known in known_apps()] == sorted(known.name for known in known_apps())


def test_nothing_is_known_of_other_names() -> None:
    assert known_app("unheard-of") is None
    assert known_app("") is None
    assert usual_uri("unheard-of") == ""


@each
def test_each_is_recognised_by_what_it_says(known: KnownApp) -> None:
    assert recognise(known.title, [], b"") is known
    assert recognise(f"Sign in - {known.title.upper()}", [], b"") is known
    if known.header:
        name, _, value = known.header.partition(": ")
        fields = [(b"x", b"y"), (name.encode(), f"{value.title()}1.2".encode())]
        assert recognise("", fields, b"") is known
        assert recognise("", [(b"x", value.encode())], b"") is None
    if known.body:
        assert recognise("", [], f"<script>window.{known.body} = 1".encode()) is known


@pytest.mark.parametrize(
    ("title", "fields", "body", "name"),
    [
        ("Sign in [Jenkins]", [(b"x-jenkins", b"2.401.3")], b"", "jenkins"),
        ("", [(b"x-jenkins", b"2.401.3")], b"<html><head><meta http-equiv='refresh'", "jenkins"),
        ("JupyterLab", [(b"server", b"TornadoServer/6.5")], b"", "jupyter"),
        ("Jupyter Server", [], b"", "jupyter"),
        ("Grafana", [], b"<script>window.grafanaBootData = {", "grafana"),
        ("Prometheus Time Series Collection and Processing Server", [], b"", "prometheus"),
        ("Traefik Proxy", [], b"", "traefik"),
        ("DAGs - Airflow", [], b"", "airflow"),
        ("code-server login", [], b"", "code-server"),
        ("", [(b"server", b"Netdata Embedded HTTP Server v1.45.2")], b"", "netdata"),
        ("Elastic", [(b"kbn-name", b"kibana-1")], b"", "kibana"),
        ("", [(b"x-syncthing-id", b"X3SKSGN-6VA75ER")], b"", "syncthing"),
        ("", [(b"content-type", b"text/plain; charset=utf-8")], b"Host check error\n", "syncthing"),
        ("", [], b"Invalid Host header - possible DNS rebinding attack detected", "mlflow"),
        ("Code", [(b"set-cookie", b"i_like_gitea=67; Path=/; HttpOnly")], b"", "gitea"),
    ],
)
def test_answers_as_they_are_seen(title: str, fields: Fields, body: bytes, name: str) -> None:
    found = recognise(title, fields, body)

    assert found is not None
    assert found.name == name


def test_what_only_one_program_says_counts_before_a_title() -> None:
    found = recognise("Jenkins overview - Grafana", [], b"window.grafanaBootData = {")

    assert found is known_app("grafana")


@pytest.mark.parametrize(
    ("title", "fields", "body"),
    [
        ("", [], b""),
        (
            "Welcome to nginx!",
            [(b"server", b"nginx"), (b"set-cookie", b"a=i_like_gitea=")],
            b"\xff",
        ),
        ("Prometheus Node Exporter", [], b"<h1>Prometheus Node Exporter</h1>"),
    ],
)
def test_what_is_not_known_is_not_guessed(title: str, fields: Fields, body: bytes) -> None:
    assert recognise(title, fields, body) is None


def test_the_document_says_what_the_data_says() -> None:
    hosts = {"public": "public", "uri": "its own", "": ""}
    expected = []
    for known in known_apps():
        names = ", ".join(f"`{name}`" for name in (known.name, *known.aliases))
        cells = (names, str(known.port), hosts[known.host], known.needs)
        expected.append(f"|{''.join(f' {cell} |' if cell else ' |' for cell in cells)}")

    assert re.findall(r"^\| `.*$", DOCUMENT.read_text(), re.MULTILINE) == expected
