"""What is bought ahead: asking for credit, what becomes of a purchase, and giving what it is once it is paid (I13).

A purchase's state moves only forward. `purchase_payment` takes it to Stripe; what comes back arrives here, from there
or from a webhook, in any order. Nothing is believed but Stripe's own word that it was paid.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction

from accounts.models import Organization, User
from billing_portal.billing import (
    bucket_deliveries,
    bucket_renewal_orders,
    crediting,
    gateway,
    minor_units,
    purchase_letters,
    top_up_orders,
)
from billing_portal.billing.models import BucketRenewal, Invoice, PaymentMethod, Purchase, PurchaseStep, TopUp
from billing_portal.ledger import accounts, credits
from billing_portal.ledger.models import Grant

log = structlog.get_logger(__name__)

Kind, Origin, State, Way = Purchase.Kind, Purchase.Origin, Purchase.State, Purchase.Way
# What a key stands for: the same form again asks for the same.
_TERMS = {"kind", "way", "amount_micros", "offer", "upgrades", "renews"}


@dataclass(frozen=True, slots=True)
class Terms:
    """What may be bought at once in a currency, in micros before tax."""

    currency: str
    minimum_micros: int
    maximum_micros: int
    presets_micros: tuple[int, ...]


class CurrencyNotSold(ValueError):
    """No credit is sold in this currency."""


class CurrencyMismatch(ValueError):
    """The amount is in another currency than the organization's books (F41)."""


class AmountRefused(ValueError):
    """Less or more than may be bought at once, or no amount that a card can be charged with."""

    def __init__(self, micros: int, terms: Terms) -> None:
        super().__init__(f"{micros} micros of {terms.currency} cannot be bought.")
        self.micros = micros
        self.terms = terms


class KeyReused(Exception):
    """The form's key has bought something else already; this is it."""

    def __init__(self, purchase: Purchase) -> None:
        super().__init__("This form was used already, for another purchase.")
        self.purchase = purchase


class FormOutdated(Exception):
    """The key is none that was minted for the organization's next purchase."""


class PurchaseOpen(Exception):
    """Another purchase of the organization is still under way."""

    def __init__(self, purchase: Purchase) -> None:
        super().__init__("Another purchase is still under way.")
        self.purchase = purchase


class CardNeeded(Exception):
    """The card that was to be charged is not the organization's default card any more."""


class PaymentMismatch(Exception):
    """Stripe was paid something else than the purchase asks for: a person has to look."""

    def __init__(self, purchase: Purchase, paid: tuple[int, str]) -> None:
        super().__init__(f"{purchase.reference} was paid with {paid[0]} minor units of {paid[1]}.")
        self.purchase = purchase
        self.paid = paid


# ── Asking ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def currencies() -> set[str]:
    """Return the currencies in which credit is sold."""
    return set(settings.CREDIT_FOR_SALE_MICROS)


def terms(currency: str) -> Terms:
    """Return what may be bought at once. Raises CurrencyNotSold."""
    if currency not in settings.CREDIT_FOR_SALE_MICROS:
        raise CurrencyNotSold(currency)
    minimum, maximum, *presets = settings.CREDIT_FOR_SALE_MICROS[currency]
    return Terms(currency, minimum, maximum, tuple(presets))


def check_amount(micros: int, currency: str) -> None:
    """Raise AmountRefused unless so much can be bought at once, or CurrencyNotSold."""
    sold = terms(currency)
    minor = minor_units.from_micros(micros, currency)
    is_whole = minor_units.to_micros(minor, currency) == micros
    is_within = sold.minimum_micros <= micros <= sold.maximum_micros
    if not (is_within and is_whole and minor_units.is_chargeable(minor, currency)):
        raise AmountRefused(micros, sold)


def next_key(organization: Organization) -> uuid.UUID:
    """Return the key for a form that is shown now: the public id of the purchase that it will make.

    It is the same until somebody has bought: two tabs, and two people, who begin at once share one purchase (F29).
    """
    bought = Purchase.objects.filter(organization=organization, origin=Origin.PERSON).count()
    return uuid.uuid5(organization.public_id, f"purchase:{bought}")


def ask(
    *,
    organization: Organization,
    user: User,
    micros: int,
    currency: str,
    way: Purchase.Way,
    key: uuid.UUID,
    now: datetime,
    payment_method: PaymentMethod | None = None,
    return_url: str = "",
) -> Purchase:
    """Record that `user` wants to buy `micros` of credit, once per `key`; nothing is sent to Stripe yet.

    By card it charges `payment_method`, the default card as it was shown. Raises AmountRefused, CurrencyNotSold,
    CurrencyMismatch, FormOutdated, KeyReused, PurchaseOpen, CardNeeded, accounts.AccountFrozen.
    """
    if currency != organization.currency:
        raise CurrencyMismatch(currency)
    check_amount(micros, currency)
    return ask_once(
        organization,
        public_id=key,
        way=way,
        payment_method=payment_method,
        kind=Kind.CREDIT,
        currency=currency,
        amount_micros=micros,
        asked_by=user,
        return_url=return_url,
        asked_at=now,
    )


def ask_once(
    organization: Organization,
    *,
    public_id: uuid.UUID,
    way: Purchase.Way,
    payment_method: PaymentMethod | None,
    **what: Any,
) -> Purchase:
    """Record what a person wants to buy, once per key, which is its `public_id`; whether it is sold is checked before.

    Raises FormOutdated, KeyReused, PurchaseOpen, CardNeeded, accounts.AccountFrozen.
    """
    with transaction.atomic():
        accounts.lock(organization.pk)
        known = Purchase.objects.filter(organization=organization, public_id=public_id).first()
        if known is not None:
            if any(getattr(known, name) != value for name, value in (what | {"way": way}).items() if name in _TERMS):
                raise KeyReused(known)
            return known
        if public_id != next_key(organization):
            raise FormOutdated
        if (under_way := open_purchase(organization, Origin.PERSON)) is not None:
            raise PurchaseOpen(under_way)
        if way == Way.CARD and not _is_default(organization, payment_method):
            raise CardNeeded
        return _record(
            organization=organization,
            origin=Origin.PERSON,
            way=way,
            public_id=public_id,
            payment_method=payment_method,
            **what,
        )


def ask_for_top_up(order: TopUp, *, now: datetime) -> Purchase:
    """Record the purchase that a standing order asks for. The caller holds the account's lock and has checked."""
    return _record(
        organization=order.organization,
        origin=Origin.TOP_UP,
        way=Way.CARD,
        currency=order.currency,
        amount_micros=order.amount_micros,
        top_up=order,
        asked_at=now,
    )


def ask_for_renewal(renewal: BucketRenewal, *, now: datetime) -> Purchase:
    """Record the purchase of a bucket again. The caller holds the account's lock and has checked that it is due."""
    return _record(
        organization=renewal.organization,
        origin=Origin.RENEWAL,
        way=Way.CARD,
        kind=Kind.BUCKET,
        offer=renewal.offer,
        currency=renewal.offer.currency,
        amount_micros=renewal.offer.price_micros,
        renewal=renewal,
        renews=True,
        asked_at=now,
    )


def open_purchase(organization: Organization, origin: Purchase.Origin) -> Purchase | None:
    """Return the purchase of this origin that is under way; there is at most one."""
    return Purchase.objects.filter(organization=organization, origin=origin, state__in=Purchase.OPEN).first()


def give_up(purchase: Purchase, *, now: datetime, failure: str = "") -> None:
    """Have it closed at Stripe, then ended: as failed if a `failure` is said, else as canceled.

    Safe at any moment: should the payment succeed before Stripe hears of it, the credit is given after all.
    """
    still_open = Purchase.objects.filter(pk=purchase.pk, state__in=Purchase.OPEN)
    still_open.update(is_given_up=True, failure=failure[:300], due_at=now)
    purchase.refresh_from_db()


# ── What becomes of it ────────────────────────────────────────────────────────────────────────────────────────────────


def receive(invoice: Invoice, stripe_invoice: gateway.Object, *, now: datetime) -> Purchase | None:
    """Take over what Stripe says of a purchase's invoice; None for any other invoice."""
    named = (stripe_invoice.get("metadata") or {}).get("purchase")
    purchase = Purchase.objects.filter(invoice=invoice).first()
    if purchase is None and named:
        purchase = Purchase.objects.filter(organization_id=invoice.organization_id, public_id=named).first()
    if purchase is not None:
        link(purchase, invoice)
        follow(purchase, invoice, now=now)
    return purchase


def link(purchase: Purchase, invoice: Invoice) -> None:
    """Note which invoice bills the purchase; once noted it stays."""
    Purchase.objects.filter(pk=purchase.pk, invoice=None).update(invoice=invoice)
    purchase.refresh_from_db()


def follow(purchase: Purchase, invoice: Invoice, *, now: datetime) -> None:
    """Let the purchase go where its invoice went: paid, or closed without payment.

    Stripe also calls it paid when a credit note took all of it off: nothing came in for that. Raises PaymentMismatch.
    """
    credited = crediting.net_minor(invoice, invoice.pre_credited_minor)
    if invoice.state == Invoice.State.PAID and credited and credited == invoice.subtotal_minor:
        end(purchase, now=now)
    elif invoice.state == Invoice.State.PAID:
        take_payment(purchase, (invoice.subtotal_minor - credited, invoice.currency), now=now)
    elif invoice.state in {Invoice.State.VOID, Invoice.State.UNCOLLECTIBLE}:
        end(purchase, now=now)


def take_payment(purchase: Purchase, paid: tuple[int, str], *, now: datetime) -> None:
    """Note that Stripe has the money, then give what was bought; called again, it does what is left of the two.

    `paid` is the amount before tax, in minor units, and its currency. Raises PaymentMismatch for another amount.
    """
    if paid != (minor_units.from_micros(purchase.amount_micros, purchase.currency), purchase.currency):
        raise PaymentMismatch(purchase, paid)
    move(purchase, State.PAID, now=now, due_at=now, failure="")
    credit(purchase, now=now)


def credit(purchase: Purchase, *, now: datetime) -> None:
    """Give a paid purchase its credit or its bucket, once. Raises what the ledger raises."""
    with transaction.atomic():
        locked = _lock(purchase)
        if locked.state != State.PAID:
            return
        given: dict[str, Any]
        if locked.kind == Kind.BUCKET:
            given = {"bucket": bucket_deliveries.deliver(locked, now=now)}
        else:
            given = {"grant": _grant(locked, now=now)}
        is_whole = locked.invoice is not None
        move(purchase, State.CREDITED, now=now, credited_at=now, due_at=None if is_whole else now, **given)


def _grant(purchase: Purchase, *, now: datetime) -> Grant:
    lasts = settings.PREPAID_CREDIT_EXPIRES_AFTER
    return credits.grant(
        organization=purchase.organization,
        kind=Grant.Kind.PREPAID,
        micros=purchase.amount_micros,
        reference=purchase.reference,
        now=now,
        expires_at=now + lasts if lasts else None,
        reason=_reason(purchase),
    )


def decline(purchase: Purchase, reason: str, *, again_at: datetime | None, now: datetime) -> None:
    """Note that a charge was declined, and when it is tried again; without an instant it is given up."""
    with transaction.atomic():
        locked = _lock(purchase)
        locked.declines = locked.attempts
        locked.failure = reason[:300]
        locked.due_at = again_at or now
        locked.is_given_up = locked.is_given_up or again_at is None
        locked.save(update_fields=["declines", "failure", "due_at", "is_given_up"])
        _note(locked, locked.state, f"Declined: {reason}"[:300], at=now)
    purchase.refresh_from_db()
    log.info("purchase declined", purchase_id=purchase.pk, organization_id=purchase.organization_id)


def end(purchase: Purchase, *, now: datetime) -> None:
    """Nothing is to be paid any more at Stripe: it failed, or was canceled. A standing order ends with its purchase."""
    with transaction.atomic():
        locked = _lock(purchase)
        to = State.FAILED if locked.failure else State.CANCELED
        ends = move(purchase, to, now=now, note=locked.failure, due_at=None)
        if ends and locked.top_up and top_up_orders.end(locked.top_up, reason=locked.failure, now=now):
            purchase_letters.tell_switched_off(locked, now=now)
        if ends and locked.renewal and bucket_renewal_orders.end(locked.renewal, reason=locked.failure, now=now):
            purchase_letters.tell_renewal_ended(locked.renewal, locked.failure or "It was canceled.", now=now)


def move(purchase: Purchase, to: Purchase.State, *, now: datetime, note: str = "", **changes: Any) -> bool:
    """Let a purchase enter a later state; False, and nothing changed, if it is there or beyond."""
    with transaction.atomic():
        locked = _lock(purchase)
        moves = can_become(State(locked.state), to)
        if moves:
            Purchase.objects.filter(pk=locked.pk).update(state=to, **changes)
            _note(locked, to, note, at=now)
        purchase.refresh_from_db()
        if moves:
            purchase_letters.tell(purchase, now=now)
    if moves:
        log.info("purchase moved", purchase_id=purchase.pk, organization_id=purchase.organization_id, state=str(to))
    return moves


def can_become(before: Purchase.State, after: Purchase.State) -> bool:
    """Say whether a purchase may go from one state to another: only forward (I17)."""
    return Purchase.RANKS[before] < Purchase.RANKS[after]


def _lock(purchase: Purchase) -> Purchase:
    found = Purchase.objects.select_for_update(of=("self",)).select_related(
        "organization", "invoice", "top_up", "offer", "upgrades", "renewal__bucket"
    )
    return found.get(pk=purchase.pk)


def _note(purchase: Purchase, state: str, note: str = "", *, at: datetime) -> None:
    PurchaseStep.objects.create(
        organization_id=purchase.organization_id, purchase=purchase, state=state, note=note, at=at
    )


def _record(**fields: Any) -> Purchase:
    purchase = Purchase.objects.create(due_at=fields["asked_at"], **fields)
    _note(purchase, purchase.state, at=purchase.asked_at)
    log.info(
        "purchase asked for",
        purchase_id=purchase.pk,
        organization_id=purchase.organization_id,
        origin=str(purchase.origin),
        kind=str(purchase.kind),
        micros=purchase.amount_micros,
    )
    return purchase


def _is_default(organization: Organization, method: PaymentMethod | None) -> bool:
    if method is None:
        return False
    default = PaymentMethod.objects.filter(organization=organization, removed_at=None, is_default=True)
    return default.filter(pk=method.pk).exists()


def _reason(purchase: Purchase) -> str:
    """Return what stands beside the credit: where it came from, and on which invoice."""
    number = purchase.invoice.number if purchase.invoice else ""
    words = "Automatic top-up" if purchase.origin == Origin.TOP_UP else ""
    return ", ".join(each for each in (words, f"invoice {number}" if number else "") if each)
