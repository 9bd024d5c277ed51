"""Where Retell posts its webhooks: verify, store, answer. Everything else happens in a worker."""

import time
from http import HTTPStatus

import structlog
from django.conf import settings
from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts import clock, queueing
from accounts.problems import Problem
from usage import retell, tasks
from usage.api import description, encodings, queries, retell_signatures
from usage.api.queries import OrganizationQuery

log = structlog.get_logger(__name__)

_CLAIM, _CLAIM_SECONDS = "usage.record_held_calls", 5


class RetellWebhookView(APIView):
    """What is signed comes from Retell; no key of ours is asked for."""

    authentication_classes = []
    permission_classes = []

    @description.takes_retell_webhooks("retell_webhook")
    def post(self, request: Request) -> HttpResponse:
        """Take a webhook of Retell's."""
        body = encodings.body_of(request._request)
        organization = _signed_for(request, body) or queries.read(request.query_params, OrganizationQuery).organization
        try:
            is_held = retell.hold(body, now=clock.now(), organization=organization)
        except retell.Malformed as error:
            raise encodings.unreadable(str(error)) from None
        if is_held and queueing.claim(_CLAIM, seconds=_CLAIM_SECONDS):
            queueing.on_commit(tasks.record_held_calls, countdown=_CLAIM_SECONDS)
        return HttpResponse(status=HTTPStatus.NO_CONTENT)


def _signed_for(request: Request, body: bytes) -> str:
    """Return the organization whose key signed, nothing for the vendor's. Raises Problem."""
    header = request.headers.get("X-Retell-Signature", "")
    try:
        return retell_signatures.verify(body, header, settings.RETELL_WEBHOOK_KEYS, at_ms=time.time_ns() // 1_000_000)
    except retell_signatures.Forged as error:
        log.warning("webhook refused", reason=str(error))
        raise Problem(
            HTTPStatus.UNAUTHORIZED, "wrong-signature", "The webhook's signature is not accepted", str(error)
        ) from None
