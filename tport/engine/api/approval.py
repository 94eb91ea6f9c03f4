"""Joining by approval: a machine asks, somebody who may types its code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from tport.engine.api.answers import Joined
from tport.engine.api.callers import ADMIN, Rule
from tport.engine.types.approval import JoinRequest


class ApprovalAPI(Protocol):
    async def ask_to_join(self, *, csr: str, hostname: str, app: str, uri: str, title: str) -> str:
        """Ask to enter the cluster and offer one application; return the word for `join_answer`.

        Raises:
            InvalidRequest: the CSR (PEM), the name or the URI is none.
            LimitExceeded: this address, or everybody together, asks too often.
        """
        ...

    async def join_answer(self, *, id: str) -> Joined | None:
        """Wait some seconds for the answer; None: there is none yet, ask again.

        Raises:
            AccessDenied: it was refused.
            NotFound: there is no such request, or nobody answered it in time.
        """
        ...

    async def find_join(self, *, code: str) -> JoinRequest:
        """Return the request of the machine that shows this code; once it was let in, with the word.

        Raises:
            InvalidRequest: this is no code.
            NotFound: no machine that this cluster knows shows it.
        """
        ...

    async def decide_join(self, *, code: str, host_id: str, approve: bool) -> JoinRequest:
        """Let the machine join, or refuse it; return the request, with the word that it may ask for.

        Args:
            host_id: of the request that was shown: a machine may ask for something else meanwhile.

        Raises:
            InvalidRequest, NotFound: as `find_join`.
            CompareFailed: it was decided already.
        """
        ...


_ANYONE: Final = frozenset({"anyone"})

CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "ask_to_join": _ANYONE,
    "join_answer": _ANYONE,
    "find_join": ADMIN,
    "decide_join": ADMIN,
}

RULES: Final[Mapping[str, Rule]] = {
    "find_join": ("token", "create"),
    "decide_join": ("token", "create"),
}

FRESH: Final = frozenset({"decide_join"})
