from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.config.places import read
from tport.engine.config.address import Address
from tport.engine.config.model import Acme, Secret
from tport.engine.config.sample import SampleFlags, sample_config
from tport.engine.errors import ConfigError


def test_the_guides_line_gives_the_guides_settings() -> None:
    text = sample_config(
        SampleFlags(acme=True, acme_email="alice@example.com", cluster_name="tport.example.com")
    )

    config = read(text)

    assert config.notes == ()
    assert config.data_dir == Path("/var/lib/tport")
    assert config.auth_service.cluster_name == "tport.example.com"
    assert config.proxy_service.web_listen_addr == Address("", 443)
    assert config.proxy_service.public_addrs == (Address("tport.example.com", 443),)
    assert config.proxy_service.acme == Acme(enabled=True, email="alice@example.com")
    assert not config.app_service.enabled


def test_a_dry_run_asks_the_server_for_trials() -> None:
    flags = SampleFlags(acme=True, acme_email="a@b.test", cluster_name="a.test", staging=True)

    acme = read(sample_config(flags)).proxy_service.acme

    assert acme.staging
    assert "staging" in acme.uri


def test_an_agents_file_has_its_proxy_token_and_app() -> None:
    text = sample_config(
        SampleFlags(
            proxy="tport.example.com",
            token="/tmp/token",
            app_name="grafana",
            app_uri="http://localhost:3000",
            data_dir="/srv/tport",
        )
    )

    config = read(text)

    assert (config.auth_service.enabled, config.proxy_service.enabled) == (False, False)
    assert config.proxy_addr == Address("tport.example.com", 3080)
    assert config.auth_token == Secret("/tmp/token")
    assert config.data_dir == Path("/srv/tport")
    assert [app.name for app in config.app_service.apps] == ["grafana"]


@pytest.mark.parametrize(
    "folder", ["/srv/a b", '/"\\#', "/Überblick", "/srv/\N{PACKAGE}", "/a\x85b"]
)
def test_every_letter_of_a_path_is_kept(folder: str) -> None:
    text = sample_config(SampleFlags(cluster_name="a.test", data_dir=folder))

    assert read(text).data_dir == Path(folder)


@pytest.mark.parametrize(
    "flags",
    [
        SampleFlags(cluster_name="a.test"),
        SampleFlags(cluster_name="a.test", public_addr="b.test:8443"),
        SampleFlags(public_addr="b.test", roles=["auth,proxy,app"]),
        SampleFlags(cluster_name="a.test", cert_file="/c #1.pem", key_file='/k"\\.pem'),
        SampleFlags(cluster_name="a.test", app_name="a", app_uri="http://[::1]:1/#x"),
        SampleFlags(roles=["auth"]),
        SampleFlags(roles=["app"], proxy="[::1]:443"),
    ],
)
def test_whatever_is_written_loads_without_complaint_or_note(flags: SampleFlags) -> None:
    config = read(sample_config(flags))

    assert config.notes == ()
    assert config.app_service.faulty == ()


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        (
            SampleFlags(),
            "--cluster-name is missing",
            "write: tport configure --cluster-name=tport.example.com",
        ),
        (
            SampleFlags(acme=True, cluster_name="a.test"),
            "--acme needs --acme-email",
            "write: tport configure --acme --acme-email=you@example.com --cluster-name=a.test",
        ),
        (
            SampleFlags(acme=True),
            "--cluster-name is missing",
            "write: tport configure --acme --acme-email=you@example.com"
            " --cluster-name=tport.example.com",
        ),
        (
            SampleFlags(acme_email="a@b.test", cluster_name="a.test"),
            "--acme-email is of no use without --acme",
            "write: tport configure --acme --acme-email=a@b.test --cluster-name=a.test",
        ),
        (
            SampleFlags(staging=True, cluster_name="a.test"),
            "--staging is of no use without --acme",
            "write: tport configure --acme --acme-email=you@example.com --staging"
            " --cluster-name=a.test",
        ),
        (
            SampleFlags(cluster_name="a.test", cert_file="/c.pem"),
            "--cert-file and --key-file go together",
            "write: tport configure --cluster-name=a.test --cert-file=/c.pem"
            " --key-file=/path/to/privkey.pem",
        ),
        (
            SampleFlags(app_name="grafana"),
            "--proxy is missing: an agent dials the proxy",
            "write: tport configure --proxy=tport.example.com:3080 --app-name=grafana"
            " --app-uri=http://localhost:PORT",
        ),
        (
            SampleFlags(
                acme=True, acme_email="a@b.test", cluster_name="a", cert_file="c", key_file="k"
            ),
            "--acme gets certificates itself: leave out --cert-file and --key-file",
            "",
        ),
        (
            SampleFlags(cluster_name="10.0.0.1"),
            "--cluster-name: '10.0.0.1' is an IP address; browsers need a DNS name here",
            "",
        ),
        (
            SampleFlags(acme=True, acme_email="alice", cluster_name="a.test"),
            "--acme-email: 'alice' is no e-mail address, as in alice@example.com",
            "",
        ),
    ],
)
def test_what_is_missing_is_said_with_the_whole_line(
    flags: SampleFlags, message: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        sample_config(flags)

    assert (str(caught.value), caught.value.hint) == (message, hint)
