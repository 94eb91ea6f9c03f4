"""The CA at the other end of HTTPS: carries out the steps that `proto.acme` says."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, Protocol, TypeVar

import trio

from tport.engine.api.protocol import AuthAPI
from tport.engine.net.https_client import HttpsClient
from tport.engine.pki.acme import AccountKey
from tport.engine.pki.contexts import https_context
from tport.engine.proto.acme import (
    JOSE,
    Conversation,
    Pause,
    Request,
    Send,
    Show,
    Steps,
    get_directory,
    renewal_info,
)
from tport.engine.proto.acme_answers import (
    MAX_ANSWER,
    CaProblem,
    Directory,
    RenewalInfo,
    Response,
)
from tport.engine.proxy.acme_settings import AcmeSettings
from tport.engine.types.acme import AcmeAccount, Challenge, ChallengeKind

logger = logging.getLogger(__name__)

DIRECTORY_KEPT: Final = 3600.0  # s that a directory is believed

T = TypeVar("T")
Showing = Callable[[tuple[Challenge, ...]], Awaitable[None]]


class Transport(Protocol):
    """Who carries requests to the CA."""

    async def __call__(self, request: Request) -> Response:
        """Return the answer, at most MAX_ANSWER bytes and one of it.

        Raises:
            ConnectionProblem: there was none.
        """
        ...


class HttpsTransport:
    """Requests over HTTPS: there are a dozen a month."""

    def __init__(self, authority: str, clock: Callable[[], datetime]) -> None:
        """`authority`: PEM certificates by which the CA is known; "": the system's."""
        context = https_context(authorities=[authority] if authority else ())
        self._client = HttpsClient(context, who="the CA", why="RFC 8555 client", limit=MAX_ANSWER)
        self._clock = clock

    async def __call__(self, request: Request) -> Response:
        headers = {}
        if request.body:
            headers["Content-Type"] = JOSE
        if request.accept:
            headers["Accept"] = request.accept
        answer = await self._client.ask(
            request.method, request.url, headers=headers, content=request.body or b""
        )
        return Response(
            status=answer.status, headers=answer.headers, body=answer.body, at=self._clock()
        )


class CertificateAuthority:
    """One CA, spoken to in the cluster's name."""

    def __init__(self, settings: AcmeSettings, auth: AuthAPI, transport: Transport) -> None:
        self._settings = settings
        self._auth = auth
        self._transport = transport
        self._directory: tuple[Directory, float] | None = None  # and until when it is believed
        self._registering = trio.Lock()

    async def order(
        self,
        names: Sequence[str],
        csr: bytes,
        kinds: Sequence[ChallengeKind],
        show: Showing,
        *,
        replaces: str = "",
    ) -> str:
        """Order a certificate; see `Conversation.order`.

        Args:
            show: has challenges shown wherever the CA may look, and returns when they are.

        Raises:
            CaProblem: the CA refused.
            ConnectionProblem: it can't be reached.
            TportError: what `show` raised.
        """
        directory = await self.directory()
        conversation, account = await self._conversation(directory)

        def order() -> Steps[str]:
            return conversation.order(names, csr, kinds, replaces=replaces)

        try:
            return await self._carry_out(order(), show)
        except CaProblem as problem:
            if problem.kind != "accountDoesNotExist":
                raise
            logger.info("the CA has forgotten the account; it is made anew")
            conversation = Conversation(directory, AccountKey(account.key))
            await self._register(conversation)
            return await self._carry_out(order(), show)

    async def window(self, certificate_id: str) -> tuple[RenewalInfo, float] | None:
        """Return when the CA suggests to renew, and after how many seconds to ask again.

        None: it has no opinion.
        """
        directory = await self.directory()
        if not directory.renewal_info or not certificate_id:
            return None
        return await self._carry_out(renewal_info(directory, certificate_id), _nothing)

    async def directory(self) -> Directory:
        if self._directory is not None and trio.current_time() < self._directory[1]:
            return self._directory[0]
        found = await self._carry_out(get_directory(self._settings.directory), _nothing)
        self._directory = found, trio.current_time() + DIRECTORY_KEPT
        return found

    async def _conversation(self, directory: Directory) -> tuple[Conversation, AcmeAccount]:
        async with self._registering:  # orders that begin at once make one account
            account = await self._auth.acme_account(directory=self._settings.directory)
            conversation = Conversation(directory, AccountKey(account.key), account.url)
            if not account.url:
                await self._register(conversation)
        return conversation, account

    async def _register(self, conversation: Conversation) -> None:
        steps = conversation.register(self._settings.email, self._settings.external)
        url = await self._carry_out(steps, _nothing)
        await self._auth.acme_registered(directory=self._settings.directory, url=url)

    async def _carry_out(self, steps: Steps[T], show: Showing) -> T:
        reply: Response | None = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                result: T = end.value
                return result
            reply = None
            match step:
                case Send(request):
                    reply = await self._transport(request)
                case Pause(seconds):
                    await trio.sleep(seconds)
                case Show(challenges):
                    await show(challenges)


async def _nothing(_: tuple[Challenge, ...]) -> None:
    """Show nothing: these steps have nothing to show."""
