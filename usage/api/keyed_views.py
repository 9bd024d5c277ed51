"""What the addresses of the API have in common: a key with the scope, and an answer in JSON."""

from collections.abc import Callable
from typing import Any

import msgspec
from django.http import HttpResponse
from rest_framework.parsers import JSONParser
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts import idempotency
from accounts.authentication import HasScope
from accounts.models import ApiKey
from usage.api import bodies, pressure

_encoder = msgspec.json.Encoder()


class KeyedView(APIView):
    """What a key with the scope may ask: `calls:write` to post, `usage:read` otherwise."""

    parser_classes = [JSONParser]

    def get_permissions(self) -> list[BasePermission]:
        writes = self.request.method == "POST"
        return [HasScope(ApiKey.Scope.CALLS_WRITE if writes else ApiKey.Scope.USAGE_READ)]


def recorded(request: Request, record: Callable[[bytes], HttpResponse]) -> HttpResponse:
    """Return the answer of what records a request's body, once for each `Idempotency-Key`. Raises Problem."""
    key = request.auth
    assert isinstance(key, ApiKey), "the permission asked for one"
    with pressure.recording():
        asked = request._request
        body = bodies.read(asked)
        return idempotency.once(asked, body, organization=key.organization, answer=lambda: record(body))


def answer(document: Any) -> HttpResponse:
    """Return a document as it is answered; no cache keeps it."""
    body = _encoder.encode(document)
    return HttpResponse(body, content_type="application/json", headers={"Cache-Control": "no-store"})
