"""The domain's one clock.

Views, tasks and commands read it once, at the edge, and pass `now` on; domain functions never read it.
It is wall time plus an offset. The offset is zero in production; beside the sandbox it follows the sandbox's
clock, so that "one month later" is the same month for both. Signatures and their tolerance use wall time,
leases and locks use the database's: neither ever reads this module.
"""

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.core.cache import cache

from accounts import queueing

_KEY = "accounts.clock.offset_seconds"


class _LastKnown:
    """The offset that this process read last."""

    seconds: float | None = None


def now() -> datetime:
    """Return the domain's present instant, aware, in UTC."""
    return datetime.now(UTC) + offset()


def offset() -> timedelta:
    """Return how far the domain's clock is ahead of wall time; always zero against the real Stripe.

    While the cache is away a process goes on with what it read last; one that never read it fails.
    """
    if not settings.STRIPE_IS_SANDBOX:
        return timedelta(0)
    try:
        _LastKnown.seconds = cache.get(_KEY, 0)
    except queueing.UNREACHABLE:
        if _LastKnown.seconds is None:
            raise
    return timedelta(seconds=_LastKnown.seconds)


def follow(offset: timedelta) -> None:
    """Run at wall time plus `offset` from here on, in every process that shares the cache."""
    cache.set(_KEY, offset.total_seconds(), timeout=None)
