"""When and from where each session was last seen: noted once a minute, not in a transaction of every request."""

import hashlib
from typing import cast

from allauth.usersessions.middleware import UserSessionsMiddleware
from django.http import HttpRequest, HttpResponseBase

from accounts import queueing

_SECONDS = 60


class SessionActivityMiddleware(UserSessionsMiddleware):  # type: ignore[misc]
    """Let allauth note what a request says of its session, unless the same was noted within the last minute.

    Another address or browser is noted at once; so is everything while the cache is away.
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.session.session_key and not queueing.claim(_key(request), seconds=_SECONDS):
            return cast("HttpResponseBase", self.get_response(request))
        return cast("HttpResponseBase", super().__call__(request))


def _key(request: HttpRequest) -> str:
    seen = (request.session.session_key, request.META.get("REMOTE_ADDR"), request.META.get("HTTP_X_FORWARDED_FOR"))
    said = repr((*seen, request.META.get("HTTP_USER_AGENT"))).encode()
    return f"session-seen:{hashlib.sha256(said).hexdigest()}"
