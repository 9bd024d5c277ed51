"""What becomes of a card payment or a card being saved: the part banks and Radar play.

Rules from docs.stripe.com/testing and docs.stripe.com/declines; nothing here touches an object.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from billing_portal.sandbox import cards
from billing_portal.sandbox.store import Object

from . import payment_methods

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox


@dataclass(frozen=True)
class Decision:
    """Approved when neither declined nor in need of authentication."""

    decline_code: str | None = None
    needs_authentication: bool = False
    blocked_by: str | None = None

    @property
    def approved(self) -> bool:
        return self.decline_code is None and not self.needs_authentication


APPROVED = Decision()


def on_payment(box: "Sandbox", method: Object, *, off_session: bool, authenticated: bool) -> Decision:
    """Decide one attempt to charge."""
    if code := box.faults.take_decline():
        return Decision(code)
    if payment_methods.is_expired(box, method):
        return Decision("expired_card")
    if blocked := _radar(box, method):
        return blocked
    if not authenticated and _asks_on_payment(method, off_session=off_session):
        return Decision("authentication_required") if off_session else Decision(needs_authentication=True)
    return Decision(payment_methods.card_of(method).decline) if method["type"] == "card" else APPROVED


def on_setup(box: "Sandbox", method: Object, *, authenticated: bool) -> Decision:
    """Decide one attempt to save a card for later."""
    card = payment_methods.card_of(method)
    if method["type"] != "card":
        return APPROVED
    if (blocked := _radar(box, method)) and (
        blocked.blocked_by == "highest_risk_level" or box.faults.radar.get("cover_setup_intents")
    ):
        return blocked
    if card.authentication and not authenticated:
        return Decision(needs_authentication=True)
    if card.decline and not card.attaches:
        return Decision(card.decline)
    return APPROVED


def _radar(box: "Sandbox", method: Object) -> Decision | None:
    card = payment_methods.card_of(method)
    if card.blocked:
        return Decision("fraudulent", blocked_by="highest_risk_level")
    if box.faults.radar.get("block_prepaid") and (method.get("card") or {}).get("funding") == "prepaid":
        return Decision("generic_decline", blocked_by="rule")
    return None


def _asks_on_payment(method: Object, *, off_session: bool) -> bool:
    """Whether the bank wants its customer to confirm this payment."""
    rule = payment_methods.card_of(method).authentication
    if rule in {"always", "declined"}:
        return True
    if rule == "setup":
        return not (off_session and method.get("_authenticated"))
    return rule == "one_time" and not off_session


def message(decline_code: str) -> str:
    return cards.MESSAGES.get(decline_code, "Your card was declined.")
