"""Joining by approval: ask, show a code, and wait until somebody has typed it elsewhere.

    the code     proves to the cluster that it talks to this machine, and that the machine was shown
                 the cluster's authorities
    the word     proves to this machine that it was the cluster which let it in. Whoever sits between can
                 say so as well, at once. It is asked for unless a pin or the web's PKI vouches

Nothing is returned before both are proved.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final

import trio

from tport.engine.agent.join import auth_dial, found_authorities
from tport.engine.agent.state import AgentState, joined_state
from tport.engine.api.answers import Authorities, Joined
from tport.engine.api.protocol import AuthAPI
from tport.engine.api.remote import open_remote_auth
from tport.engine.config.address import Address
from tport.engine.errors import (
    AccessDenied,
    ConfigError,
    ConnectionProblem,
    InvalidRequest,
    RemoteProtocolError,
    Unavailable,
)
from tport.engine.pki.authority import bundle_pin
from tport.engine.pki.keys import make_key_and_csr, public_key_id, public_key_of_csr
from tport.engine.types.approval import join_code, join_word, read_word

RETRY: Final = 2.0  # s after which a proxy that can't be reached is asked again
PATIENCE: Final = 60.0  # s that it may be away
TRIES: Final = 3  # to type the word
_WHAT_TO_DO: Final = (
    "look once more at the page on which the code was typed: if it let no machine in, somebody sits"
    " between. --ca-pin needs no word (the pin is what stands after the dot in a join token), nor does"
    " joining with a token: tport tokens add"
)

Clock = Callable[[], datetime]


async def join_by_approval(
    proxy: Address,
    *,
    app: str,
    uri: str,
    title: str,
    hostname: str,
    pins: Sequence[str],
    clock: Clock,
    show: Callable[[str], None],
    ask_word: Callable[[int], Awaitable[str | None]],
) -> AgentState:
    """Ask to join the cluster behind `proxy`, and wait for the answer.

    Args:
        pins: 64 hex digits each; what `--ca-pin` gave.
        show: tells the code to the person at this machine.
        ask_word: asks that person for the word that the cluster shows by now, saying how many tries
            are left, this one included; None: nobody types any more.

    Raises:
        ConnectionProblem: the proxy can't be reached, or what answers is none.
        AccessDenied: it was refused; or who answered could not be proved to be the cluster.
        NotFound: nobody answered.
        InvalidRequest: the name or the URI is none.
    """
    bundle, vouched = await found_authorities(proxy, pins, clock)
    pin = bundle_pin(bundle.host, bundle.web)
    key, csr = make_key_and_csr()
    key_id = public_key_id(public_key_of_csr(csr))
    async with open_remote_auth(auth_dial(proxy, None, bundle.host, clock)) as auth:
        asked = await auth.ask_to_join(csr=csr, hostname=hostname, app=app, uri=uri, title=title)
        show(join_code(key_id, pin))
        joined = await _answer(auth, asked)
    _check_authorities(joined.authorities, pin)
    if not vouched:
        await _check_word(join_word(key_id, pin), ask_word)
    return joined_state(joined, key, str(proxy))


async def _answer(auth: AuthAPI, asked: str) -> Joined:
    """Wait for the answer, also while the proxy is away for a while."""
    away_since = math.inf
    while True:
        try:
            joined = await auth.join_answer(id=asked)
        except (ConnectionProblem, Unavailable, RemoteProtocolError):
            away_since = min(away_since, trio.current_time())
            if trio.current_time() - away_since > PATIENCE:
                raise
            await trio.sleep(RETRY)
            continue
        away_since = math.inf
        if joined is not None:
            return joined


def _check_authorities(authorities: Authorities, pin: str) -> None:
    """Raise AccessDenied unless these, which the agent will believe, are those of the code."""
    try:
        found = bundle_pin(authorities.host, authorities.web)
    except ConfigError:
        found = "none"
    if found != pin:
        raise AccessDenied(
            "the answer came with other authorities than those of the code: nothing was kept",
            reason=f"pin {found}, the code was made of {pin}",
            hint=_WHAT_TO_DO,
        )


async def _check_word(word: str, ask: Callable[[int], Awaitable[str | None]]) -> None:
    """Raise AccessDenied unless the person types the word."""
    for tries in range(TRIES, 0, -1):
        typed = await ask(tries)
        if typed is None:
            raise AccessDenied(
                "no word was typed, and nobody else vouches for who let this machine in:"
                " nothing was kept",
                hint=_WHAT_TO_DO,
            )
        try:
            if read_word(typed) == word:
                return
        except InvalidRequest:
            pass
    raise AccessDenied(
        "that is not the word that the cluster shows for this code: nothing was kept",
        hint=_WHAT_TO_DO,
    )
