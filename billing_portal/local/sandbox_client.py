"""The Stripe sandbox as seen from the demo: its clock, and a customer's hand on the card form. HTTP only."""

import json
import urllib.error
import urllib.parse
import urllib.request
from datetime import datetime
from typing import Any

from django.conf import settings

# Stripe's test cards that pay without a question.
CARD_NUMBERS = (
    "4242424242424242",
    "5555555555554444",
    "6011111111111117",
    "3056930009020004",
    "3566002020360505",
    "2223003122003222",
    "6200000000000005",
    "4000056655665556",
    "5200828282828210",
    "6011000990139424",
    "36227206271667",
    "6011981111111113",
    "6200000000000047",
    "4000003720000278",
)
_TIMEOUT_SECONDS = 600  # a clock moved by a month has much to do before it answers


def now() -> datetime:
    """Return the sandbox's present instant."""
    return datetime.fromisoformat(_call("GET", "/_sandbox/clock")["now"])


def advance_to(instant: datetime) -> None:
    """Move the sandbox's clock forward; all that falls due happens before this returns."""
    _call("POST", "/_sandbox/clock", {"now": instant.isoformat()})


def confirm_card(setup_intent_id: str, client_secret: str, *, number: str = "4242424242424242") -> None:
    """Enter a card as Stripe's card form does in the browser: with the publishable key, past the portal."""
    card = {"number": number, "exp_month": "12", "exp_year": "2031", "cvc": "123"}
    method = _send_form("/v1/payment_methods", {"type": "card", **{f"card[{name}]": card[name] for name in card}})
    confirmation = {
        "client_secret": client_secret,
        "payment_method": method["id"],
        "mandate_data[customer_acceptance][type]": "online",
        "mandate_data[customer_acceptance][online][user_agent]": "demo",
    }
    _send_form(f"/v1/setup_intents/{setup_intent_id}/confirm", confirmation)


def _send_form(path: str, fields: dict[str, str]) -> dict[str, Any]:
    body = urllib.parse.urlencode(fields).encode()
    return _send(path, body, "application/x-www-form-urlencoded", settings.STRIPE_PUBLISHABLE_KEY)


def _call(method: str, path: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
    body = json.dumps(document).encode() if method == "POST" else None
    return _send(path, body, "application/json", settings.STRIPE_SECRET_KEY)


def _send(path: str, body: bytes | None, content_type: str, key: str) -> dict[str, Any]:
    headers = {"Content-Type": content_type, "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(settings.STRIPE_API_BASE + path, data=body, headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - the sandbox on loopback
            result: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"The sandbox refused {path}: {error.read().decode()}") from error
    return result
