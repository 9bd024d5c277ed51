"""How many requests a key may make: a bucket of tokens for each in Valkey, filled again every moment.

One key's flood must not starve the others. A request takes one token; the bucket holds `API_KEY_BURST` and is filled
with `API_KEY_REQUESTS_PER_SECOND`. Without Valkey nobody counts and every request passes: usage that is refused because
the counter is away would be lost for nothing.
"""

import functools
import math
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from redis import Redis
from redis.commands.core import Script
from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.models import ApiKey
from accounts.problems import Problem

if TYPE_CHECKING:
    # DRF's views import the default throttles: this module.
    from rest_framework.views import APIView

log = structlog.get_logger(__name__)

PAUSE_SECONDS = 5.0
# A counter that is slower than that is as good as none.
_TIMEOUT_SECONDS = 0.25
# Takes a token and returns 0, or returns after how many milliseconds there will be one. The time is Valkey's own.
_TAKE = """
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = burst
if bucket[1] then
    tokens = math.min(burst, bucket[1] + math.max(0, now - bucket[2]) * rate / 1000)
end
if tokens < 1 then
    return math.ceil((1 - tokens) * 1000 / rate)
end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens - 1), 'at', tostring(now))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst * 1000 / rate) + 1000)
return 0
"""


class _Counter:
    """What this process last saw of Valkey."""

    away_until = 0.0


class KeyThrottle(BaseThrottle):
    """Refuse a key's request when its bucket is empty. Raises Problem, which says when to come again."""

    def allow_request(self, request: Request, view: "APIView") -> bool:
        if isinstance(request.auth, ApiKey) and (wait_ms := take(request.auth)):
            seconds = math.ceil(wait_ms / 1000)
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too-many-requests",
                "Too many requests",
                f"A key may make {settings.API_KEY_REQUESTS_PER_SECOND:,} requests a second, and bursts of "
                f"{settings.API_KEY_BURST:,}. Send this again in {seconds} s, and more items in each request.",
                headers={"Retry-After": str(seconds)},
            )
        return True


def take(key: ApiKey) -> int:
    """Take a token of the key; return 0, or after how many milliseconds there will be one."""
    if time.monotonic() < _Counter.away_until:
        return 0
    try:
        return int(
            _script()(
                keys=[f"accounts.rate_limits.{key.pk}"],
                args=[settings.API_KEY_REQUESTS_PER_SECOND, settings.API_KEY_BURST],
            )
        )
    except RedisError as error:
        _Counter.away_until = time.monotonic() + PAUSE_SECONDS
        log.warning("requests are not counted", error=type(error).__name__)
        return 0


def _script() -> Script:
    return _client(settings.BROKER_URL).register_script(_TAKE)


@functools.cache
def _client(url: str) -> Redis:
    client: Redis = Redis.from_url(url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS)
    return client
