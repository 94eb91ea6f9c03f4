"""The container's files say what is true of tport: settings, flags, ports, paths, and who runs it."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from tests.test_docs import commands
from tests.test_examples import COMPOSE
from tport.engine.config.load import load_config
from tport.engine.defaults import DRAIN, WEB_PORT

ROOT: Final = Path(__file__).parents[1]
CONTAINERFILE: Final = COMPOSE.with_name("Containerfile")
CONFIG: Final = COMPOSE.with_name("tport.yaml")
OPTIONS: Final = {
    path: {
        word
        for parameter in command.params
        if parameter.param_type_name == "option"
        for word in (*parameter.opts, *parameter.secondary_opts)
    }
    for path, command in commands()
}

Instruction = tuple[str, str]


def instructions() -> list[Instruction]:
    """Return the Containerfile's instructions, each of one line."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(word, rest) for line in lines if line for word, _, rest in [line.partition(" ")]]


def of(word: str) -> list[str]:
    """Return what follows an instruction, wherever it stands."""
    return [rest for name, rest in instructions() if name == word]


def services() -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = YAML(typ="safe").load(COMPOSE)["services"]
    return made


def mounts(service: Mapping[str, Any]) -> dict[str, str]:
    """Return what is mounted where: path in the container → volume or file."""
    split = [volume.split(":") for volume in service.get("volumes", ())]
    return {where: what for what, where, *_ in split}


def flag(words: list[str], name: str) -> str:
    """Return the value of a flag of a command."""
    (value,) = [word.partition("=")[2] for word in words if word.startswith(f"{name}=")]
    return value


def check_options(command: str, words: list[str]) -> None:
    used = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert used <= OPTIONS[command], f"{command} has no {used - OPTIONS[command]}"


# --- The image ------------------------------------------------------------------------------------


def test_the_base_is_a_python_that_tport_runs_on_and_named_by_its_digest() -> None:
    (base,) = of("ARG")
    found = re.fullmatch(
        r"BASE=docker\.io/library/python:3\.(\d+)[\w.-]+@sha256:[0-9a-f]{64}", base
    )

    assert found is not None
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())["project"]
    assert f"Programming Language :: Python :: 3.{found[1]}" in project["classifiers"]
    assert of("FROM") == ["${BASE} AS build", "${BASE}"]


def test_what_the_image_copies_is_in_the_repository_and_is_all_that_a_wheel_is_made_of() -> None:
    copied = [
        source for line in of("COPY") if not line.startswith("--") for source in line.split()[:-1]
    ]

    assert all(ROOT.joinpath(source).exists() for source in copied)
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())["project"]
    assert {"pyproject.toml", "tport", project["readme"], *project["license-files"]} <= set(copied)
    for name in re.findall(r"locks/\w+\.txt", " ".join(of("RUN"))):
        assert name in copied
        assert f"--require-hashes -r {name}" in " ".join(of("RUN"))


def test_the_image_runs_without_root_and_owns_its_data() -> None:
    (user,) = of("USER")
    uid, gid = user.split(":")
    (env,) = (line for line in of("ENV") if "TPORT_DATA_DIR" in line)
    (volume,) = of("VOLUME")
    (made,) = (line for line in of("RUN") if "useradd" in line)

    assert int(uid) > 0
    assert f"--uid={uid}" in made
    assert f"--gid={gid}" in made
    assert f"TPORT_DATA_DIR={volume}" in env
    assert volume in shlex.split(made.partition("install --directory")[2])
    assert of("EXPOSE") == [str(WEB_PORT)]
    assert of("STOPSIGNAL") == ["SIGTERM"]


def test_the_images_health_is_asked_where_its_command_serves_it() -> None:
    words: list[str] = YAML(typ="safe").load(of("CMD")[0])

    assert words[0] == "start"
    check_options("tport start", words[1:])
    assert f"http://{flag(words, '--diag-addr')}/healthz" in of("HEALTHCHECK")[0]


# --- The services ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(services()))
def test_a_service_has_no_right_that_it_does_not_need(name: str) -> None:
    service = services()[name]

    assert service["user"] == of("USER")[0]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert int(service["stop_grace_period"].removesuffix("s")) > DRAIN


def test_what_services_name_is_there() -> None:
    compose = YAML(typ="safe").load(COMPOSE)

    for service in services().values():
        build = service["build"]
        assert (COMPOSE.parent / build["context"] / build["dockerfile"]).resolve() == CONTAINERFILE
        assert set(service.get("depends_on", ())) <= set(services())
        assert set(service.get("networks", ())) <= set(compose["networks"])
        for source in mounts(service).values():
            assert source in compose["volumes"] or COMPOSE.parent.joinpath(source).is_file(), source


def test_auth_and_proxy_are_what_their_file_says() -> None:
    service, config = services()["tport"], load_config(CONFIG)

    words = service["command"]
    assert words[0] == "start"
    check_options("tport start", words[1:])
    assert mounts(service)[flag(words, "--config")] == f"./{CONFIG.name}"
    assert mounts(service)[str(config.data_dir)] == "data"
    assert config.auth_service.enabled
    assert config.proxy_service.enabled
    listen = config.proxy_service.web_listen_addr
    assert (listen.host, listen.port) == ("0.0.0.0", WEB_PORT)
    assert service["ports"] == [f"127.0.0.1:{WEB_PORT}:{WEB_PORT}"]
    assert config.diag_addr is not None
    asked = f"http://{config.diag_addr.host}:{config.diag_addr.port}/healthz"
    assert asked in service["healthcheck"]["test"][-1]


def test_the_token_goes_by_a_file_that_only_the_agent_reads_and_when_auth_is_well() -> None:
    token, agent = services()["token"], services()["agent"]
    script = token["command"][0]
    words = shlex.split(script.partition("exec ")[2].partition(">")[0])
    file = script.rpartition(">")[2]
    folder = str(Path(file).parent)

    assert token["entrypoint"] == ["sh", "-c"]
    assert script.startswith("umask 077 ")
    assert words[:3] == ["tport", "tokens", "add"]
    check_options("tport tokens add", words[3:])
    assert flag(agent["command"], "--token") == file
    assert flag(agent["command"], "--app-name") == flag(words, "--app-name")
    assert folder in next(line for line in of("RUN") if "useradd" in line), "whose, tells the image"
    assert mounts(token)[folder] == mounts(agent)[folder]
    assert [name for name in services() if folder in mounts(services()[name])] == ["token", "agent"]
    assert f"{mounts(agent)[folder]}:{folder}:ro" in agent["volumes"]
    assert mounts(token)["/var/lib/tport"] == mounts(services()["tport"])["/var/lib/tport"]
    assert token["network_mode"] == "service:tport"
    assert token["depends_on"] == {"tport": {"condition": "service_healthy"}}
    assert agent["depends_on"] == {"token": {"condition": "service_completed_successfully"}}


def test_the_agent_dials_a_name_of_the_proxy_and_an_application_that_nobody_else_reaches() -> None:
    agent, app = services()["agent"], services()["hello"]
    words = agent["command"]

    assert words[0] == "start"
    check_options("tport start", words[1:])
    assert flag(words, "--roles") == "app"
    public = [f"{name.host}:{name.port}" for name in load_config(CONFIG).proxy_service.public_addrs]
    assert flag(words, "--auth-server") in public
    assert flag(words, "--auth-server").partition(":")[0] in services()
    assert flag(words, "--app-uri") == f"http://hello:{app['entrypoint'][3]}"
    assert app["networks"] == ["inside"]
    assert "inside" in agent["networks"]
    assert "inside" not in services()["tport"]["networks"]
    assert "ports" not in app
    asked = f"http://{flag(words, '--diag-addr')}/healthz"
    assert asked in agent["healthcheck"]["test"][-1]
    assert mounts(agent)["/var/lib/tport"] not in mounts(services()["tport"]).values()


def test_the_readmes_commands_name_services_files_and_commands_that_exist() -> None:
    text = COMPOSE.with_name("README.md").read_text() + COMPOSE.read_text()

    for service, command in re.findall(r"exec (?:-T )?(\w+) (tport \w+)", text):
        assert service in services()
        assert command in OPTIONS
    for path in re.findall(
        r"(?:--file=|-f )(\S+/\w+(?:\.yaml)?)", text + CONTAINERFILE.read_text()
    ):
        assert ROOT.joinpath(path).is_file(), path
