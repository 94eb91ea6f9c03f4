"""`tport tokens`: the join tokens with which agents enter the cluster."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from typing import Annotated

import typer

from tport.commands.printing import print_out, print_rows, print_value, printable, say, time_text
from tport.commands.run import settings_of, with_cluster
from tport.commands.settings import Format, FormatOption
from tport.engine.errors import InvalidRequest

app = typer.Typer(help="Join tokens, with which agents enter the cluster.", no_args_is_help=True)


class TokenType(StrEnum):
    app = "app"


@app.command()
def add(
    ctx: typer.Context,
    type: Annotated[TokenType, typer.Option("--type", help="What may join with it.")] = (
        TokenType.app
    ),
    app_name: Annotated[
        str, typer.Option("--app-name", help="The only application its holder may offer.")
    ] = "",
    app_uri: Annotated[
        str, typer.Option("--app-uri", help="Where that application is, seen from its agent.")
    ] = "",
    ttl: Annotated[str, typer.Option("--ttl", help="Its life: 30m, 2h; at most 48h.")] = "60m",
    max_uses: Annotated[
        int, typer.Option("--max-uses", min=0, help="How many agents may join; 0: any number.")
    ] = 0,
    format: FormatOption = Format.text,
) -> None:
    """Make a join token, shown this once.

    It is printed with what to do with it. For a file, --format=text prints the token alone:

    \b
    (umask 077; set -C; rm -f /tmp/token &&
        tport tokens add --type=app --format=text > /tmp/token)
    """  # noqa: D301 - \b keeps the lines below it as they are
    seconds = _seconds(ttl)
    made = with_cluster(
        ctx,
        lambda auth: auth.create_token(
            roles=(type.value,), ttl=seconds, app_name=app_name, app_uri=app_uri, max_uses=max_uses
        ),
    )
    if format is not Format.text:
        value: dict[str, object] = {
            "token": made.token,
            "roles": list(made.roles),
            "expires": time_text(made.expires),
        }
        if made.app_name:
            value |= {
                "app_name": made.app_name,
                "app_uri": made.app_uri,
                "public_addr": made.public_addr,
            }
        print_value(value, format)
        return
    if _asked_for_format(ctx):
        print_out(made.token)
        return
    name = made.app_name or "grafana"
    uri = made.app_uri or "http://localhost:3000"
    proxy = made.proxy_addr or "<proxy>:3080"
    uses = f"{max_uses} agents" if max_uses > 1 else "one agent" if max_uses else "any agent"
    print_out(f"The join token: {made.token}")
    print_out(
        f"It lets {uses} join until {time_text(made.expires)} ({_minutes(seconds)})."
        + (f" An agent that joins with it may offer {name!r} only." if made.app_name else "")
    )
    print_out(
        f"""
On the application's machine, put it into a file (the shell's history never sees it):

  (umask 077; set -C; rm -f /tmp/token && cat > /tmp/token)    # paste the token, Enter, Ctrl-D

and start the agent:

  tport start --roles=app --token=/tmp/token --auth-server={proxy} \\
      --app-name={name} --app-uri={shlex.quote(uri)}
"""
    )
    if made.public_addr:
        print_out(f"The application will be at https://{made.public_addr}")
        host = made.public_addr.partition(":")[0]
        if not host.endswith(".localhost"):
            print_out(
                f"For that, the name {host} must lead to the proxy (a DNS record, or a wildcard"
                f" *.{host.partition('.')[2]}), and the proxy's certificate must cover it;"
                " tport's own authority does so by itself (tport ca trust)."
            )


@app.command("ls")
def list_(ctx: typer.Context, format: FormatOption = Format.text) -> None:
    """List join tokens; the secrets themselves are nowhere."""
    tokens = with_cluster(ctx, lambda auth: auth.list_tokens())
    if format is not Format.text:
        print_value(
            [
                {
                    "token": f"{token.hint}…",
                    "roles": list(token.roles),
                    "app_name": token.app_name,
                    "expires": time_text(token.expires),
                    "uses": token.uses,
                    "max_uses": token.max_uses,
                    "static": token.static,
                }
                for token in tokens
            ],
            format,
        )
        return
    print_rows(
        ("TOKEN", "TYPE", "APP", "EXPIRES", "USES"),
        [
            (
                f"{token.hint}…",
                ",".join(token.roles),
                token.app_name or "any",
                time_text(token.expires) or "never",
                f"{token.uses}/{token.max_uses}" if token.max_uses else str(token.uses),
            )
            for token in tokens
        ],
        empty="no tokens; make one with: tport tokens add --type=app",
    )


@app.command()
def rm(
    ctx: typer.Context,
    token: Annotated[
        str, typer.Argument(help="The start of the token, as `ls` shows it; no need for the whole.")
    ],
    if_exists: Annotated[
        bool, typer.Option("--if-exists", help="A missing token is no error.")
    ] = False,
) -> None:
    """Delete a join token: nobody joins with it any more. Agents that did stay."""
    from tport.engine.errors import NotFound

    try:
        gone = with_cluster(ctx, lambda auth: auth.delete_token(token=token.rstrip("…")))
    except NotFound:
        if not if_exists:
            raise
        return
    say(f"token {gone.hint}… deleted")


@app.command()
def approve(
    ctx: typer.Context,
    code: Annotated[str, typer.Argument(help="The code that the machine shows.")],
    refuse: Annotated[bool, typer.Option("--refuse", help="Don't let it join.")] = False,
) -> None:
    """Let a machine join that shows this code (`tport join`), without a token.

    What it says of itself is shown first, and asked about on a terminal; --yes answers. Then the
    word is printed that the machine asks for where nobody else vouches for this cluster.
    """
    asked = with_cluster(ctx, lambda auth: auth.find_join(code=code))
    title = f" ({asked.title})" if asked.title else ""
    say(printable(f"{asked.hostname} at {asked.remote} asks to offer {asked.app}{title}"))
    say(printable(f"at {asked.uri}; its key is {asked.key_id[:32]}…"))
    if not refuse and sys.stdin.isatty() and not settings_of(ctx).yes:
        typer.confirm("Does that machine show this code, and may it join?", abort=True, err=True)
    decided = with_cluster(
        ctx,
        lambda auth: auth.decide_join(code=code, host_id=asked.host_id, approve=not refuse),
    )
    say(f"{asked.app} is refused" if refuse else f"it joins, and offers {asked.app}")
    if decided.word:
        say("if the machine asks for a word, it is:")
        print_out(decided.word)


def _asked_for_format(ctx: typer.Context) -> bool:
    """Tell whether --format was given: then text means the token alone."""
    source = ctx.get_parameter_source("format")
    return source is not None and source.name == "COMMANDLINE"


def _seconds(text: str) -> float:
    from tport.engine.config.flags import judge_flag
    from tport.engine.config.words import parse_seconds

    seconds = judge_flag("--ttl", parse_seconds, text)
    if not 60 <= seconds <= 48 * 3600:
        raise InvalidRequest(f"--ttl {text}: a token lives from 1m to 48h")
    return seconds


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.0f} hours"
