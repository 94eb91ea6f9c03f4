"""When certificates are ordered by ACME: renewal, and the wait after a failure. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

FIRST_WAIT: Final = timedelta(hours=1)  # after a refusal. Source: security.md TLS-13
LAST_WAIT: Final = timedelta(hours=24)  # TLS-13
# After a try that never came to the CA's judgement, so that it counts against no limit of the
# CA: who mends a firewall or a resolver doesn't wait an hour.
FIRST_WAIT_UNREACHED: Final = timedelta(minutes=1)
LAST_WAIT_UNREACHED: Final = timedelta(hours=1)
FIRST_DAY: Final = timedelta(days=1)
LATEST: Final = 0.9  # of a certificate's life
# For which no new name is ordered, whatever a CA names: it gives new orders evenly, one in 36 s at Let's Encrypt,
# and counts them over three hours (letsencrypt.org/docs/rate-limits). Later it is asked again, by one name.
LONGEST_HOLD: Final = timedelta(hours=3)
# None can stand in a host's name, which agents say and CAs repeat: each has a space.
_OF_ACCOUNT: Final = re.compile(
    r"too many (?:new orders|(?:new )?registrations|currently pending authorizations)"
    r"|from this (?:account|ip address|/48)"
)
SPREAD: Final = 0.05  # of a certificate's life: what is renewed when, so that not all is at once


def renewal_time(not_before: datetime, not_after: datetime, jitter: float) -> datetime:
    """Return when two thirds of a certificate's life are over, or a little earlier.

    Args:
        jitter: 0 to 1, by chance; which part of SPREAD earlier.
    """
    life = not_after - not_before
    return not_before + life * (2 / 3 - SPREAD * jitter)


def window_time(
    start: datetime,
    end: datetime,
    jitter: float,
    *,
    not_before: datetime,
    not_after: datetime,
) -> datetime:
    """Return a time within the window that a CA suggests (RFC 9773 §4.2), the `jitter`th part in.

    Never in a certificate's first day, nor in its last tenth: a CA whose windows are wrong must
    not make us order without end, or not at all.
    """
    life = not_after - not_before
    earliest = not_before + min(FIRST_DAY, life / 10)
    return min(max(start + (end - start) * jitter, earliest), not_before + life * LATEST)


def next_try(
    now: datetime,
    failures: int,
    jitter: float,
    *,
    retry_after: float = 0.0,
    unreached: bool = False,
) -> datetime:
    """Return before when not to try again.

    Args:
        failures: of this kind, since the last success, this one included.
        jitter: 0 to 1; up to a tenth is added, so that names that failed together part.
        retry_after: seconds that the CA named: never earlier.
        unreached: the CA never came to a judgement.
    """
    first, last = FIRST_WAIT, LAST_WAIT
    if unreached:
        first, last = FIRST_WAIT_UNREACHED, LAST_WAIT_UNREACHED
    doubled: int = 2 ** min(max(failures, 1) - 1, 20)
    wait = first * doubled * (1 + 0.1 * jitter)
    return now + max(min(wait, last), timedelta(seconds=retry_after))


def is_of_account(words: str) -> bool:
    """Tell whether a CA's words are of a limit on all that its account, or our address, asks for.

    By that its limits are told apart, which it gives in words alone. What isn't known is taken for a limit of
    the one name: not all of those name it ("... already issued for this exact set of identifiers"), and
    whoever owns a name can bring it to such a limit by an account of their own.

    Source: `Decision.Result` in ratelimits/limiter.go of Boulder, the program of Let's Encrypt, and the words
    of its versions before that.
    """
    return _OF_ACCOUNT.search(words.lower()) is not None


def domain_of(name: str) -> str:
    """Return a name's last two labels, which stand for its registered domain.

    Where that has three ("example.co.uk") several domains are taken for one: never one for several, so that
    what is limited below it isn't more than the CA allows.
    """
    return ".".join(name.split(".")[-2:])
