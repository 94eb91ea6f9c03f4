"""Many agents in one process: `python -m tests.faults.many_agents PORT TOKEN-FILE COUNT`.

Each joins, and keeps a tunnel as real ones do, by the same code; they offer nothing. A line tells how many
tunnels are up whenever that has changed: `held 1000`.
"""

from __future__ import annotations

import ssl
import sys
from functools import partial
from pathlib import Path
from typing import Final

import trio

from tport.engine.agent.join import join_cluster
from tport.engine.agent.state import AgentState
from tport.engine.agent.tunnel import Dialled, TunnelKeeper
from tport.engine.config.address import Address
from tport.engine.defaults import ALPN_TUNNEL
from tport.engine.errors import ConnectionProblem
from tport.engine.net.dial import dial_tcp
from tport.engine.net.mux_stream import MuxStream
from tport.engine.net.tls import connect_tls
from tport.engine.pki.contexts import tunnel_client_context
from tport.engine.pki.identity import identity_of
from tport.engine.process import wall_clock
from tport.engine.proto.tunnel import Offers, Verdicts
from tport.engine.types.identity import IdentityKind

PROXIES: Final[tuple[IdentityKind, ...]] = ("proxy",)
AT_ONCE: Final = 8  # that join; it is not what is tested
LOOK: Final = 0.1  # s between looks at how many tunnels are up


async def main(port: int, token: str, count: int) -> None:
    proxy = Address("127.0.0.1", port)
    keepers: list[TunnelKeeper] = []
    joining = trio.CapacityLimiter(AT_ONCE)
    async with trio.open_nursery() as nursery:

        async def run(number: int) -> None:
            async with joining:
                state = await join_cluster(
                    proxy,
                    token,
                    hostname=f"many-{number}",
                    pins=(),
                    insecure=False,
                    clock=wall_clock,
                )
            keeper = TunnelKeeper(
                agent_id=state.host_id,
                hostname=f"many-{number}",
                cluster=state.authorities.cluster,
                dial=partial(dial, proxy, state, {}),
                take=refuse,
                offers=lambda: Offers(apps=()),
                on_verdicts=ignore,
            )
            keepers.append(keeper)
            await keeper.keep()

        for number in range(count):
            nursery.start_soon(run, number)
        told = -1
        while True:
            held = sum(keeper.connected for keeper in keepers)
            if held != told:
                sys.stdout.write(f"held {held}\n")
                sys.stdout.flush()
                told = held
            await trio.sleep(LOOK)


async def dial(
    proxy: Address, state: AgentState, contexts: dict[str, ssl.SSLContext], proxy_id: str
) -> Dialled:
    """Dial as agents do, but for the context, which is made once.

    A thousand machines make one each at the same time; here it would be the better half of what
    one process has to do, while the proxy waits for it.
    """
    if proxy_id not in contexts:
        made = tunnel_client_context(state.pair, state.authorities.host, proxy_id=proxy_id)
        contexts[proxy_id] = made
    context = contexts[proxy_id]
    stream = await dial_tcp(proxy.host, proxy.port)
    tls = await connect_tls(stream, context, server_name=None, alpn=ALPN_TUNNEL)
    if tls.peer_certificate is None:
        await trio.aclose_forcefully(tls)
        raise ConnectionProblem("no certificate")
    proxy_of_it = identity_of(
        tls.peer_certificate,
        authorities=state.authorities,
        expected_kinds=PROXIES,
        now=wall_clock(),
    )
    return Dialled(tls, proxy_of_it.name)


def refuse(stream: MuxStream, _: trio.Nursery) -> None:
    stream.on_arrival = None
    stream.reset()


def ignore(_: Verdicts) -> None: ...


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), Path(sys.argv[2]).read_text().strip(), int(sys.argv[3]))
