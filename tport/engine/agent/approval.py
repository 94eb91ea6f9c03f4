"""Joining by approval: ask, show a code, and wait until somebody has typed it elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Final

import trio

from tport.engine.agent.join import auth_dial, shown_authorities
from tport.engine.agent.state import AgentState, joined_state
from tport.engine.api.remote import open_remote_auth
from tport.engine.config.address import Address
from tport.engine.errors import ConnectionProblem, RemoteProtocolError, Unavailable
from tport.engine.pki.authority import bundle_pin
from tport.engine.pki.keys import make_key_and_csr, public_key_id, public_key_of_csr
from tport.engine.types.approval import join_code

RETRY: Final = 2.0  # s after which a proxy that can't be reached is asked again
PATIENCE: Final = 60.0  # s that it may be away

Clock = Callable[[], datetime]


async def join_by_approval(
    proxy: Address,
    *,
    app: str,
    uri: str,
    title: str,
    hostname: str,
    clock: Clock,
    show: Callable[[str], None],
) -> AgentState:
    """Ask to join the cluster behind `proxy`, and wait for the answer.

    Until then nothing of the proxy is believed: the code is of the authorities that it showed,
    and only a cluster that has these finds it.

    Args:
        show: tells the code to the person at this machine.

    Raises:
        ConnectionProblem: the proxy can't be reached, or what answers is none.
        AccessDenied: it was refused.
        NotFound: nobody answered.
        InvalidRequest: the name or the URI is none.
    """
    bundle = await shown_authorities(proxy, clock)
    key, csr = make_key_and_csr()
    async with open_remote_auth(auth_dial(proxy, None, bundle.host, clock)) as auth:
        asked = await auth.ask_to_join(csr=csr, hostname=hostname, app=app, uri=uri, title=title)
        pin = bundle_pin(bundle.host, bundle.web)
        show(join_code(public_key_id(public_key_of_csr(csr)), pin))
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
                return joined_state(joined, key, str(proxy))
