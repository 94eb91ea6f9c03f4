"""What an application can ask for, with a real server behind the agent: nginx, and the examples.

nginx redirects to its own name and port, sets cookies for a whole domain and wants certificates,
as real applications do.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jwt
import pytest
import trio
import trustme
from msgspec.structs import replace

from tests.e2e.harness import need, until_it_listens
from tests.ports import free_port
from tests.stack import Answer, Person, Stack, open_stack
from tport.engine.config.load import load_config
from tport.engine.types.app import App, UpstreamTls

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAM = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
CA, CLIENTS = trustme.CA(), trustme.CA()

CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
  access_log off;
  ssl_protocols TLSv1.2 TLSv1.3;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{http};
    root {folder}/www;
    location = /moved {{ return 301 /target?a=b; }}
    location = /internal {{ return 302 http://jenkins.internal.dev:8080/login?from=%2F; }}
    location = /elsewhere {{ return 302 https://elsewhere.example.com/; }}
    location = /relative {{ absolute_redirect off; return 302 /target; }}
    location = /refresh {{
      add_header Refresh "3; url=http://localhost/target";
      add_header Content-Location http://jenkins.internal.dev/target;
      return 200 ok;
    }}
    location = /cookies {{
      add_header Set-Cookie "a=1; Domain=tport.localhost; Path=/; HttpOnly";
      add_header Set-Cookie "b=2; Path=/; domain=.tport.localhost";
      add_header Set-Cookie "c=3; Path=/; SameSite=Lax";
      return 200 ok;
    }}
    location = /headers {{
      return 200 "$http_x_custom_header|$http_x_env|$http_x_account|$http_x_teams|$host";
    }}
    location = /bearer {{ return 200 $http_authorization; }}
    location /api/ {{ return 200 "$request_uri"; }}
  }}
  server {{
    listen 127.0.0.1:{https} ssl;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.pem;
    location / {{ return 200 "$ssl_protocol"; }}
  }}
  server {{
    listen 127.0.0.1:{mutual} ssl;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.pem;
    ssl_client_certificate {folder}/clients.pem;
    ssl_verify_client on;
    location / {{ return 200 "$ssl_client_s_dn"; }}
  }}
}}
"""


@dataclass
class Nginx:
    folder: Path
    http: int
    https: int
    mutual: int


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Nginx]:
    """Run nginx in `folder` for as long as the block takes."""
    need("nginx", PROGRAM, "make test-deps installs it")
    assert PROGRAM is not None
    nginx = Nginx(folder, free_port(), free_port(), free_port())
    leaf = CA.issue_cert("vault.internal")
    folder.joinpath("server.pem").write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    folder.joinpath("clients.pem").write_bytes(CLIENTS.cert_pem.bytes())
    folder.joinpath("ca.pem").write_bytes(CA.cert_pem.bytes())
    agent = CLIENTS.issue_cert("agent", common_name="agent-1")
    folder.joinpath("agent.pem").write_bytes(agent.cert_chain_pems[0].bytes())
    folder.joinpath("agent-key.pem").write_bytes(agent.private_key_pem.bytes())
    folder.joinpath("www", "docs").mkdir(parents=True)
    folder.joinpath("www", "docs", "index.html").write_text("the docs")
    file = folder / "nginx.conf"
    file.write_text(
        CONFIGURATION.format(folder=folder, http=nginx.http, https=nginx.https, mutual=nginx.mutual)
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(trio.run_process, [PROGRAM, "-p", str(folder), "-c", str(file)])
        )
        for port in (nginx.http, nginx.https, nginx.mutual):
            await until_it_listens(port)
        yield nginx
        nursery.cancel_scope.cancel()


def example(name: str) -> App:
    """Return the one application of an example."""
    [app] = load_config(EXAMPLES / name).app_service.apps
    return app


@asynccontextmanager
async def opened(*apps: App, **traits: tuple[str, ...]) -> AsyncIterator[tuple[Stack, Person]]:
    async with open_stack(apps=apps, debug_app=False, drain=False) as stack:
        yield stack, await stack.user("alice", traits=traits)


async def test_redirects_of_a_real_server_lead_to_the_public_address(tmp_path: Path) -> None:
    """examples/redirects.yaml: the server's own address, whatever it is called, and those listed."""
    async with running(tmp_path) as nginx:
        app = replace(example("redirects.yaml"), uri=f"http://localhost:{nginx.http}")
        async with opened(app) as (stack, alice):

            async def location(path: str) -> str:
                return (await alice.get("jenkins", path)).header("location")

            assert await location("/moved") == stack.url("jenkins", "/target?a=b")
            assert await location("/docs") == stack.url("jenkins", "/docs/")  # nginx's own doing
            assert await location("/internal") == stack.url("jenkins", "/login?from=%2F")
            assert await location("/elsewhere") == "https://elsewhere.example.com/"
            assert await location("/relative") == "/target"
            refresh = await alice.get("jenkins", "/refresh")
            assert refresh.header("refresh") == f"3; url={stack.url('jenkins', '/target')}"
            assert refresh.header("content-location") == stack.url("jenkins", "/target")
            etag = (await alice.get("jenkins", "/docs/")).header("etag")
            assert etag
            unchanged = await alice.get("jenkins", "/docs/", **{"If-None-Match": etag})
            assert (unchanged.status, unchanged.header("location")) == (304, "")


async def test_cookies_of_a_real_server_are_for_its_own_host(tmp_path: Path) -> None:
    """WEB-03: in their order, each but for its Domain as it was sent."""
    async with running(tmp_path) as nginx:
        async with opened(App(name="shop", uri=f"http://localhost:{nginx.http}")) as (_, alice):
            answer = await alice.get("shop", "/cookies")

    assert answer.all("set-cookie") == [
        "a=1; Path=/; HttpOnly",
        "b=2; Path=/",
        "c=3; Path=/; SameSite=Lax",
    ]


async def test_a_real_server_receives_the_headers_of_the_example(tmp_path: Path) -> None:
    """examples/headers.yaml, functions and Host among them."""
    async with running(tmp_path) as nginx:
        app = replace(example("headers.yaml"), uri=f"http://localhost:{nginx.http}")
        traits = {"env": ("prod",), "email": ("alice@example.com",), "groups": ("x", "team-red")}
        async with opened(app, **traits) as (_, alice):
            answer = await alice.get("dashboard", "/headers", **{"X-Env": "forged"})

    assert answer.body == b"example|prod|alice|red|dashboard.example.com"


async def test_a_real_server_finds_the_jwt_as_a_bearer_token(tmp_path: Path) -> None:
    """examples/jwt.yaml: over what the client sent, and short."""
    async with running(tmp_path) as nginx:
        app = replace(example("jwt.yaml"), uri=f"http://localhost:{nginx.http}")
        async with opened(app, env=("prod",)) as (_, alice):
            answer = await alice.get("api", "/bearer", Authorization="Bearer forged")

    scheme, _, token = answer.body.decode().partition(" ")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (scheme, claims["sub"], claims["app"]) == ("Bearer", "alice", "api")
    assert not claims.keys() & {"roles", "traits"}


async def test_a_real_server_is_reached_at_an_address_of_its_own(tmp_path: Path) -> None:
    """examples/public-address.yaml: and it redirects to that."""
    async with running(tmp_path) as nginx:
        app = replace(example("public-address.yaml"), uri=f"http://localhost:{nginx.http}")
        async with opened(app) as (stack, alice):
            assert stack.host("jira") == "jira.example.com"
            moved = await alice.get("jira", "/moved")

    assert (moved.status, moved.header("location")) == (301, stack.url("jira", "/target?a=b"))


async def test_an_application_in_a_sub_directory_is_entered_there(tmp_path: Path) -> None:
    """examples/sub-directory.yaml: the root leads there, everything else is as it came."""
    async with running(tmp_path) as nginx:
        base = example("sub-directory.yaml")
        uri = base.uri.replace("10.0.1.60:8001", f"localhost:{nginx.http}")
        async with opened(replace(base, uri=uri)) as (_, alice):
            entered = await alice.get("k8s", "/")
            path, _, fragment = entered.header("location").partition("#")
            page = await alice.get("k8s", path)

    assert (entered.status, fragment) == (302, "/overview?namespace=default")
    assert (page.status, page.body.decode()) == (200, path)


async def test_a_certificate_of_ones_own_authority_is_known_by_its_file(tmp_path: Path) -> None:
    """examples/upstream-tls.yaml: and the agent shows its own."""
    async with running(tmp_path) as nginx:
        tls = UpstreamTls(
            ca_file=f"{tmp_path}/ca.pem",
            server_name="vault.internal",
            client_cert=f"{tmp_path}/agent.pem",
            client_key=f"{tmp_path}/agent-key.pem",
        )
        assert example("upstream-tls.yaml").tls.server_name == tls.server_name
        vault = replace(
            example("upstream-tls.yaml"), uri=f"https://127.0.0.1:{nginx.mutual}", tls=tls
        )
        async with opened(vault) as (_, alice):
            answer = await alice.get("vault")

    assert answer.status == 200
    assert answer.body.startswith(b"CN=agent-1,")


@pytest.mark.parametrize(
    ("uri", "tls", "why"),
    [
        ("https://127.0.0.1:{https}", UpstreamTls(), "Name its authority in tls.ca_file"),
        ("https://127.0.0.1:{https}", UpstreamTls(ca_file="ca.pem"), "other addresses than 127.0.0.1"),
        ("https://localhost:{https}", UpstreamTls(ca_file="ca.pem"), "another name than localhost"),
        ("https://localhost:{http}", UpstreamTls(), "its uri must begin with http://"),
        ("http://localhost:{https}", UpstreamTls(), "its uri must begin with https://"),
    ],
)  # fmt: skip
async def test_ag_09_what_is_wrong_with_tls_is_said_in_plain_words(
    tmp_path: Path, uri: str, tls: UpstreamTls, why: str
) -> None:
    async with running(tmp_path) as nginx:
        uri = uri.format(http=nginx.http, https=nginx.https)
        if tls.ca_file:
            tls = replace(tls, ca_file=f"{tmp_path}/{tls.ca_file}")
        async with opened(App(name="app", uri=uri, tls=tls)) as (_, alice):
            answer: Answer = await alice.get("app")

    assert answer.status == 502
    assert why in answer.body.decode()


async def test_a_self_signed_application_works_where_the_file_says_so(tmp_path: Path) -> None:
    """examples/self-signed.yaml."""
    async with running(tmp_path) as nginx:
        app = replace(example("self-signed.yaml"), uri=f"https://localhost:{nginx.https}")
        async with opened(app) as (_, alice):
            answer = await alice.get("router")

    assert (answer.status, answer.body) == (200, b"TLSv1.3")
