"""What the addresses of the API have in common: a key with the scope, and an answer in JSON."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from django.http import HttpResponse
from rest_framework.parsers import JSONParser
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts import idempotency
from accounts.authentication import HasScope
from accounts.models import ApiKey, Organization
from accounts.problems import Problem
from usage.api import bodies, pressure, queries

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


def organization_of(request: Request, query: queries.OrganizationQuery) -> Organization:
    """Return whose data is read. Another organization than the key's is answered as one that does not exist."""
    key: object = request.auth
    assert isinstance(key, ApiKey), "the permission asked for one"
    own = key.organization
    if own is not None:
        if query.organization in ("", own.reference):
            return own
        raise not_found()
    if not query.organization:
        raise queries.invalid("organization", "A key of the vendor names the organization.")
    found = Organization.objects.filter(reference=query.organization).first()
    if found is None:
        raise not_found()
    return found


def not_found() -> Problem:
    """Return the problem of what does not exist, or of what the key may not know of."""
    return Problem(HTTPStatus.NOT_FOUND, "not-found", "Nothing was found here")


def answer(document: Any, *, status: int = HTTPStatus.OK) -> HttpResponse:
    """Return a document as it is answered; no cache keeps it."""
    body = _encoder.encode(document)
    return HttpResponse(body, status=status, content_type="application/json", headers={"Cache-Control": "no-store"})
