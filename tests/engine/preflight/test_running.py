"""The whole table of a configuration: what is wrong is in it, and it is there in time."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio
import trustme
from trio.testing import MockClock

from tests.engine.preflight.test_looking import (
    NEVER,
    Resolver,
    answer_once,
    server_context,
)
from tests.ports import free_port
from tests.stack import open_stack
from tport.engine.config.address import Address
from tport.engine.config.load import load_config
from tport.engine.config.model import Config
from tport.engine.net.dial import open_listener
from tport.engine.preflight.row import Row
from tport.engine.preflight.running import CONTROL, DEADLINE, preflight

NAME = "tport.example.com"


class AnyLabel(dict[str, str | OSError]):
    """Answers for names, and for whatever is one label below NAME."""

    def get(self, name: str, default: object = None) -> object:  # type: ignore[override] # names are all that is asked for
        if name not in self and name.endswith(f".{NAME}"):
            return super().get(f"*.{NAME}", default)
        return super().get(name, default)


async def config(folder: Path, text: str = "", acme: str = "") -> Config:
    file = folder / "tport.yaml"
    listen = f"127.0.0.1:{free_port()}"
    proxy = f"web_listen_addr: '{listen}', public_addr: {NAME}{acme}"
    file.write_text(
        f"tport: {{data_dir: {folder}/data}}\n"
        f"auth_service: {{listen_addr: '127.0.0.1:{free_port()}'}}\n"
        f"proxy_service: {{{proxy}}}\n{text}"
    )
    return load_config(file)


def by_check(rows: list[Row]) -> dict[str, Row]:
    assert len({row.check for row in rows}) == len(rows)
    return {row.check: row for row in rows}


async def test_a_sound_server_has_nothing_to_mend(tmp_path: Path) -> None:
    resolver = Resolver(AnyLabel({NAME: "127.0.0.1", f"*.{NAME}": "127.0.0.1"}))
    trio.socket.set_custom_hostname_resolver(resolver)

    rows = by_check(await preflight(await config(tmp_path)))

    assert {check for check, row in rows.items() if row.verdict == "problem"} == set()
    port = next(check for check in rows if check.startswith("reachable"))
    assert rows[port].verdict == "ok"
    assert rows["port"].verdict == rows["auth port"].verdict == "ok"
    assert CONTROL not in resolver.asked  # nobody else is asked for without need


@pytest.mark.parametrize("own", ["", ", uri: 'https://ca.inside/dir', ca_file: ca.pem"])
async def test_a_machine_without_dns_has_one_row_about_it(tmp_path: Path, own: str) -> None:
    """It finds no CA, inside or outside."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trio.socket.set_custom_hostname_resolver(Resolver({}))
    acme = f", acme: {{enabled: yes, email: a@b.test{own}}}"

    rows = await preflight(await config(tmp_path, acme=acme))

    about = [row for row in rows if "name" in row.found or row.check.startswith("dns")]
    assert [(row.check, row.verdict) for row in about] == [("dns", "problem")]
    assert not any(row.check.startswith("reachable") for row in rows)
    assert "acme directory" not in {row.check for row in rows}


@pytest.mark.parametrize("wrong", ["ca_file", "eab", "dns_hook", "no hook", "http_addr", "pair"])
async def test_what_acme_needs_of_this_machine_is_looked_at_even_without_dns(
    tmp_path: Path, wrong: str
) -> None:
    """Each of these ends the start, or every order, and none of them needs the CA to be seen."""
    trio.socket.set_custom_hostname_resolver(Resolver({}))
    (tmp_path / "hook").touch(0o644)
    gone = f"{tmp_path}/gone"
    async with await open_listener(Address("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.socket.getsockname()[1]}"
        inner, check, said = {
            "ca_file": (f"ca_file: {gone}", "acme directory", gone),
            "eab": (f"eab: {{kid: k, key_file: {gone}}}", "acme account", gone),
            "dns_hook": (f"dns_hook: {tmp_path}/hook", "acme dns_hook", "may not run it"),
            "no hook": (f"dns_hook: {gone}", "acme dns_hook", "no such file"),
            "http_addr": (f"http_addr: '{taken}'", "http port", "in use"),
            "pair": ("", f"certificate {gone}", "no such file"),
        }[wrong]
        acme = f", acme: {{enabled: yes, email: a@b.test{', ' + inner if inner else ''}}}"
        if wrong == "pair":
            acme += f", https_keypairs: [{{key_file: {gone}, cert_file: {gone}}}]"

        row = by_check(await preflight(await config(tmp_path, acme=acme)))[check]

    assert row.verdict == "problem"
    assert said in row.found
    assert row.advice


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_who_looks_as_root_takes_secrets_of_the_services_user(tmp_path: Path) -> None:
    """`sudo tport configure --check`, as the guide has it: the service itself is somebody else."""
    trio.socket.set_custom_hostname_resolver(Resolver({}))
    for name, text in (("key", "c2l4dGVlbiBieXRlcy4uLg"), ("token", f"{'a' * 32}.{'0' * 64}")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
        os.chown(tmp_path / name, 12345, -1)
    acme = f", acme: {{enabled: yes, email: a@b.test, eab: {{kid: k, key_file: {tmp_path}/key}}}}"
    server = by_check(await preflight(await config(tmp_path, acme=acme)))
    file = tmp_path / "agent.yaml"
    file.write_text(
        f"tport: {{data_dir: {tmp_path}/data, auth_token: {tmp_path}/token,"
        f" proxy_server: '127.0.0.1:{free_port()}'}}\n"
        "auth_service: {enabled: no}\nproxy_service: {enabled: no}\n"
        "app_service: {enabled: yes, debug_app: yes}\n"
    )
    agent = by_check(await preflight(load_config(file)))

    assert "acme account" not in server
    assert agent["joining"].verdict == "ok", agent["joining"]


async def test_with_acme_files_need_not_be_for_every_name(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.issue_cert("other.test").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "pair.pem")
    )
    trio.socket.set_custom_hostname_resolver(Resolver({}))
    pair = f"{tmp_path}/pair.pem"
    acme = f", acme: {{enabled: yes}}, https_keypairs: [{{key_file: {pair}, cert_file: {pair}}}]"

    rows = by_check(await preflight(await config(tmp_path, acme=acme)))

    assert f"certificate {pair}" in rows
    assert "certificates' names" not in rows


async def test_an_acme_server_of_ones_own_is_known_by_its_file(tmp_path: Path) -> None:
    async with open_stack() as stack:
        ca = tmp_path / "ca.pem"
        ca.write_text(stack.ca)
        trio.socket.set_custom_hostname_resolver(
            Resolver(AnyLabel({NAME: "127.0.0.1", f"*.{NAME}": "127.0.0.1"}))
        )
        uri = f"https://tport.localhost:{stack.port}/webapi/ping"
        for file, verdict in ((ca, "ok"), (tmp_path / "nowhere", "problem")):
            acme = f", acme: {{enabled: yes, email: a@b.test, uri: '{uri}', ca_file: {file}}}"
            rows = by_check(await preflight(await config(tmp_path, acme=acme)))
            assert rows["acme directory"].verdict == verdict, rows["acme directory"]


async def test_an_authority_of_ones_own_is_asked_by_its_own_certificate(tmp_path: Path) -> None:
    """It tells the clock too; a hook needs no port at all."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "hook").touch(0o755)
    resolver = Resolver(AnyLabel({NAME: "127.0.0.1", f"*.{NAME}": "127.0.0.1"}))
    trio.socket.set_custom_hostname_resolver(resolver)
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_ssl_over_tcp, host="127.0.0.1")
        listeners = await nursery.start(serve, answer_once, 0, server_context(ca))
        port = listeners[0].transport_listener.socket.getsockname()[1]
        own = f"uri: 'https://127.0.0.1:{port}/dir', dns_hook: {tmp_path}/hook"

        def acme(ca_file: str) -> str:
            return f", acme: {{enabled: yes, email: a@b.test, ca_file: {ca_file}, {own}}}"

        good = by_check(await preflight(await config(tmp_path, acme=acme("ca.pem"))))
        bad = by_check(await preflight(await config(tmp_path, acme=acme("gone.pem"))))
        nursery.cancel_scope.cancel()

    assert good["acme directory"].verdict == good["acme port"].verdict == "ok"
    assert good["clock"].verdict == "problem"  # the test's authority lives at another time
    assert bad["acme directory"].verdict == "problem"
    assert bad["acme directory"].advice


async def test_a_resolver_that_never_answers_does_not_hang_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.05  # s; files are looked at in threads
    trio.socket.set_custom_hostname_resolver(
        Resolver(AnyLabel({NAME: NEVER, f"*.{NAME}": NEVER, CONTROL: NEVER}))
    )

    rows = by_check(await preflight(await config(tmp_path)))

    assert trio.current_time() < DEADLINE
    assert rows["dns"].verdict == "unknown"
    assert rows["port"].verdict == "ok"


async def test_every_application_is_asked_and_a_faulty_one_told(tmp_path: Path) -> None:
    trio.socket.set_custom_hostname_resolver(
        Resolver(AnyLabel({NAME: "127.0.0.1", f"*.{NAME}": "127.0.0.1"}))
    )
    apps = f"[{{name: a, uri: 'http://127.0.0.1:{free_port()}'}}, {{name: b, uri: nowhere}}]"

    rows = by_check(
        await preflight(await config(tmp_path, f"app_service: {{enabled: yes, apps: {apps}}}"))
    )

    assert "connection refused" in rows["app a"].found
    assert "'nowhere' has no scheme" in rows["app b"].found


@pytest.mark.parametrize(
    ("pin", "verdict"), [("right", "ok"), ("wrong", "problem"), ("none", "problem")]
)
async def test_an_agent_sees_whether_its_proxy_is_the_one_of_its_pin(
    tmp_path: Path, pin: str, verdict: str
) -> None:
    async with open_stack() as stack:
        admin = stack.running.admin
        assert admin is not None
        made = await admin.create_token(
            roles=("app",), ttl=600, app_name="", app_uri="", max_uses=1
        )
        secret, _, right = made.token.partition(".")
        (tmp_path / "token").touch(0o600)
        (tmp_path / "token").write_text(
            {"right": made.token, "wrong": f"{secret}.{'0' * 64}", "none": secret}[pin]
        )
        assert right
        file = tmp_path / "agent.yaml"
        file.write_text(
            f"tport: {{data_dir: {tmp_path}/data, auth_token: {tmp_path}/token,"
            f" proxy_server: '{made.proxy_addr}'}}\n"
            "auth_service: {enabled: no}\nproxy_service: {enabled: no}\n"
            "app_service: {enabled: yes, debug_app: yes}\n"
        )

        rows = by_check(await preflight(load_config(file)))

    assert rows["proxy"].verdict == rows["joining"].verdict == rows["clock"].verdict == "ok"
    assert rows["proxy's authorities"].verdict == verdict


async def test_a_running_tport_is_not_in_its_own_way() -> None:
    async with open_stack() as stack:
        config = stack.running.config
        port = config.proxy_service.public_addrs[0].port
        listen = Address("127.0.0.1", port)
        proxy = msgspec.structs.replace(config.proxy_service, web_listen_addr=listen)

        rows = by_check(await preflight(msgspec.structs.replace(config, proxy_service=proxy)))

    assert rows["port"].verdict == "ok"
    assert "tport serves there" in rows["port"].found
