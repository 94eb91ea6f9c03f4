"""`tport get`: resources as YAML, which `tport create` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tport.commands.printing import labels_text, print_out, print_rows, say, time_text
from tport.commands.run import with_cluster
from tport.commands.settings import Format, FormatOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tport.engine.api.protocol import AuthAPI
    from tport.engine.types.resource import Resource

app = typer.Typer(help="Print resources: roles, users, tokens, apps, locks, connectors.")


@app.command()
def get(
    ctx: typer.Context,
    resources: Annotated[
        list[str], typer.Argument(help="KIND, KIND/NAME, several of them, or `all`.")
    ],
    format: FormatOption = Format.yaml,
    with_secrets: Annotated[
        bool,
        typer.Option("--with-secrets", help="With password hashes and private keys: guard it."),
    ] = False,
) -> None:
    """Print resources in Teleport's format: role, user, token, app, lock, oidc, github,
    app_server, cluster_auth_preference; `connectors` are oidc and github.

    `tport create -f` takes what this prints. `tport get all --with-secrets` is all that another
    cluster needs to take this one's place: tport start --bootstrap FILE.
    """
    from tport.engine.config.kinds import EVERYTHING, parse_references
    from tport.engine.config.resource_text import json_text, yaml_text
    from tport.engine.types.resource import PreferenceResource, UserResource

    wanted = parse_references(resources)
    if resources == [EVERYTHING] and not with_secrets:
        wanted = [each for each in wanted if each.kind != "cert_authority"]

    async def ask(auth: AuthAPI) -> list[Resource]:
        found: list[Resource] = []
        for kind, name in wanted:
            found += await auth.get_resources(kind=kind, name=name, secrets=with_secrets)
        if resources == [EVERYTHING]:  # what stands in a file, or nowhere, is not carried
            found = [
                each
                for each in found
                if (not isinstance(each, PreferenceResource) or each.origin == "dynamic")
                # a provider makes its people anew; as local ones they would be in its way
                and (not isinstance(each, UserResource) or each.user.is_local)
            ]
        return found

    found = with_cluster(ctx, ask)
    if format is Format.json:
        print_out(json_text(found))
    elif format is Format.yaml:
        if found:
            print_out(yaml_text(found))
        else:
            say("there are none")
    else:
        _print_table(found)


def _print_table(resources: Sequence[Resource]) -> None:
    from tport.engine.types.resource import kind_of, name_of

    print_rows(
        ("KIND", "NAME", "IS"),
        [(kind_of(each), name_of(each), _in_short(each)) for each in resources],
        empty="there are none",
    )


def _in_short(resource: Resource) -> str:
    """Return in a few words what a resource says."""
    from tport.engine.types import resource as types

    match resource:
        case types.RoleResource(role=role):
            labels = labels_text(dict(role.allow.app_labels))
            return role.description or (f"opens {labels}" if labels else "opens nothing")
        case types.UserResource(user=user):
            return ",".join(user.roles)
        case types.TokenResource(token=token):
            return f"{token.app_name or 'any app'} until {time_text(token.expires) or 'deleted'}"
        case types.AppResource(app=app):
            return f"{app.uri} {labels_text(dict(app.labels))}".strip()
        case types.LockResource(lock=lock):
            until = f" until {time_text(lock.expires)}" if lock.expires else ""
            return f"{lock.target}{until} {lock.message}".strip()
        case types.OidcResource(connector=connector):
            return connector.issuer
        case types.GithubResource(connector=connector):
            return connector.endpoint
        case types.AppServerResource(server=server):
            return f"refused: {server.refused}" if server.refused else server.app.uri
        case types.PreferenceResource(preference=preference):
            return f"second factor: {preference.second_factor.word if preference.second_factor else ''}"
        case types.AuthorityResource():
            return ""
