"""The address that Stripe posts events to: verify, store once, answer. Everything else happens in a worker."""

import json
import time

import structlog
from django.conf import settings
from django.db import DataError
from django.http import HttpRequest, HttpResponse, RawPostDataException, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from accounts import queueing
from billing_portal.billing import inbox, signatures, tasks

log = structlog.get_logger(__name__)

# The largest events, invoices with ten lines, are some 30 kB.
LONGEST_BODY = 1024 * 1024


@csrf_exempt
@require_POST
def receive(request: HttpRequest) -> HttpResponse:
    """Store a signed event. 400 for what is not one, 413 for what is too long, 200 for everything stored or known."""
    if _length(request) > LONGEST_BODY:
        return HttpResponse("The body is too long.", status=413, content_type="text/plain")
    try:
        body = request.body
        signatures.verify(
            body, request.headers.get("Stripe-Signature", ""), settings.STRIPE_WEBHOOK_SECRETS, at=time.time()
        )
        event_id = inbox.record(json.loads(body))
    except signatures.Forged as error:
        log.warning("webhook refused", reason=str(error))
        return _refusal(str(error))
    except (ValueError, RecursionError, DataError, RawPostDataException, UnreadablePostError):
        log.warning("webhook malformed")
        return _refusal("The body is not an event.")
    if event_id is not None:
        queueing.on_commit(tasks.handle_event, event_id)
    return HttpResponse("Stored.", content_type="text/plain")


def _length(request: HttpRequest) -> int:
    """Return the announced length of the body; what announces none is not read by the server either."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    return int(length) if length.isdigit() else LONGEST_BODY + 1


def _refusal(reason: str) -> HttpResponse:
    return HttpResponse(reason, status=400, content_type="text/plain")
