"""Cards and Link accounts saved for off-session charges.

A card is entered on Stripe's own form against a SetupIntent (`start`), its mandate is accepted (`accept_mandate`), and
`finish` takes it over from what Stripe says, never from what a browser says. The page that Stripe returns to and the
webhook both call `finish`: whichever comes first, the result is the same.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog
from django.db import transaction

from accounts.models import Organization, User
from billing_portal.billing import card_limits, card_records, customers, gateway, intents, mandates, welcome_cards
from billing_portal.billing.models import CardSetup, Customer, PaymentMethod
from billing_portal.ledger import balances
from billing_portal.ledger.models import Account

log = structlog.get_logger(__name__)

# An entry that was left open is shown again, so that two tabs save one card.
SETUP_IS_OPEN_FOR = timedelta(hours=1)
PREPAID_REFUSAL = "Prepaid cards are not accepted. Use a credit or debit card, or Link."
TRIED_TOO_OFTEN = "This card was entered too often today. Try again tomorrow, or use another one."
_OPEN_STATUSES = {"requires_payment_method", "requires_confirmation"}


class SetupPending(Exception):
    """Stripe has not decided yet: a bank is being asked, or nothing was entered."""

    def __init__(self, setup: CardSetup, status: str) -> None:
        super().__init__("The payment method is not confirmed yet.")
        self.setup = setup
        self.status = status


class SetupDeclined(Exception):
    """The bank declined; its reason is for the person to read."""

    def __init__(self, setup: CardSetup, message: str) -> None:
        super().__init__(message)
        self.setup = setup


class CardRefused(Exception):
    """The bank may agree, but we do not take this card; why is for the person to read."""

    def __init__(self, setup: CardSetup, reason: str) -> None:
        super().__init__(reason)
        self.setup = setup


class MandateMissing(Exception):
    """Nobody accepted the mandate of this entry, so its card must not be charged."""

    def __init__(self, setup: CardSetup) -> None:
        super().__init__("The authorization for later charges was not accepted.")
        self.setup = setup


class CardNeeded(Exception):
    """The last card stays while money is owed on it."""

    def __init__(self, method: PaymentMethod, accrued_micros: int) -> None:
        super().__init__("This is the only payment method, and usage is waiting to be paid. Add another one first.")
        self.method = method
        self.accrued_micros = accrued_micros


@dataclass(frozen=True, slots=True)
class Started:
    """What Stripe's form needs to save a card. The secrets belong to this one entry."""

    setup: CardSetup
    client_secret: str
    customer_session_client_secret: str


def start(organization: Organization, user: User, *, now: datetime, address: str = "") -> Started:
    """Begin a card entry, or take up the one that the organization left open.

    `address` is the internet address that asks. Raises card_limits.TooManySetups (card testing),
    customers.CustomerDeleted, and what the gateway raises.
    """
    customer = customers.ensure(organization, now=now)
    # Counted before it is looked: of two tabs that begin at once, one finds the other's entry, or counts the same.
    number = CardSetup.objects.filter(organization=organization).count() + 1
    setup, intent = _open_setup(organization, now) or _new_setup(organization, customer, number, address, now)
    log.info("card entry started", organization_id=organization.pk, user_id=user.pk, setup_id=setup.pk)
    return Started(setup, intent["client_secret"], _customer_session(customer))


def accept_mandate(setup: CardSetup, user: User, *, now: datetime) -> None:
    """Keep that `user` agreed to the setup's mandate at `now`; the first acceptance stands."""
    unaccepted = CardSetup.objects.filter(pk=setup.pk, mandate_accepted_at=None)
    unaccepted.update(mandate_accepted_at=now, mandate_accepted_by=user)
    setup.refresh_from_db()


def finish(stripe_setup_intent_id: str, *, now: datetime) -> PaymentMethod:
    """Take over the card of an entry, as Stripe tells it, and return it; safe at any time and any number of times.

    The first card becomes the default. The same card saved before is replaced: one card is one row. Raises
    SetupPending, SetupDeclined, CardRefused, MandateMissing, CardSetup.DoesNotExist, what the gateway raises.
    """
    setup = CardSetup.objects.select_related("organization").get(stripe_setup_intent_id=stripe_setup_intent_id)
    if setup.refused_reason:
        raise CardRefused(setup, setup.refused_reason)
    intent = gateway.retrieve("setup_intents", stripe_setup_intent_id, expand=["payment_method"])
    card_limits.note_card(setup, intent)
    _check_confirmed(setup, intent)
    if not setup.mandate_accepted_at:
        raise MandateMissing(setup)
    details = intent["payment_method"]
    if card_records.is_prepaid(details):
        _refuse(setup, details, PREPAID_REFUSAL, now)
    if not setup.finished_at and card_limits.is_tried_too_often(setup):
        _refuse(setup, details, TRIED_TOO_OFTEN, now)
    method = card_records.store(setup.organization, details, now=now, setup=setup)
    welcome_cards.judge(method, now=now)
    _tell_stripe(setup.organization, now)
    CardSetup.objects.filter(pk=setup.pk, finished_at=None).update(finished_at=now)
    log.info("card saved", organization_id=setup.organization_id, payment_method_id=method.pk)
    return method


def has_usable_card(organization: Organization) -> bool:
    """Say whether there is a card to charge."""
    return PaymentMethod.objects.filter(organization=organization, removed_at=None, is_default=True).exists()


def make_default(method: PaymentMethod, *, now: datetime) -> None:
    """Charge this card from now on. Raises PaymentMethod.DoesNotExist for one that was removed."""
    card_records.choose(method)
    _tell_stripe(method.organization, now)


def drop_refused(organization: Organization, *, now: datetime) -> list[PaymentMethod]:
    """Forget saved cards that we do not charge: prepaid ones, saved where nobody looked. Return them.

    Whoever charges calls it before. Raises what the gateway raises.
    """
    saved = PaymentMethod.objects.filter(organization=organization, removed_at=None)
    refused = [method for method in saved.order_by("id") if card_records.is_refused(method.funding)]
    for method in refused:
        with transaction.atomic():
            card_records.retire(method, now=now)
        log.warning("prepaid card dropped", organization_id=organization.pk, payment_method_id=method.pk)
    if refused:
        _tell_stripe(organization, now)
    return refused


def remove(method: PaymentMethod, *, now: datetime) -> None:
    """Forget a card, here and at Stripe; the newest of the others becomes the default. Raises CardNeeded."""
    with transaction.atomic():
        Customer.objects.select_for_update(of=("self",)).get(organization=method.organization)
        others = method.organization.payment_methods.filter(removed_at=None).exclude(pk=method.pk)
        accrued_micros = _accrued_micros(method.organization, now)
        if accrued_micros > 0 and not others.exists():
            raise CardNeeded(method, accrued_micros)
        card_records.retire(method, now=now)
    _tell_stripe(method.organization, now)
    log.info("card removed", organization_id=method.organization_id, payment_method_id=method.pk)


def receive_setup(stripe_setup_intent: gateway.Object, *, now: datetime) -> None:
    """Follow a SetupIntent that succeeded, whoever heard of it first; refusals are results here, not failures."""
    try:
        finish(stripe_setup_intent["id"], now=now)
    except CardSetup.DoesNotExist:
        _adopt(stripe_setup_intent, now)
    except (CardRefused, SetupPending, SetupDeclined) as outcome:
        log.info("card entry not finished", setup_id=outcome.setup.pk, outcome=type(outcome).__name__)


def receive_failed_setup(stripe_setup_intent: gateway.Object, *, now: datetime) -> None:
    """Keep which card was declined, so that it is not entered for one organization after another."""
    setup = CardSetup.objects.filter(stripe_setup_intent_id=stripe_setup_intent["id"]).first()
    if setup is not None:
        card_limits.note_card(setup, stripe_setup_intent)


def receive_method(stripe_payment_method: gateway.Object, *, now: datetime) -> None:
    """Follow a change of a card we know: renewed by its bank, or detached at Stripe (F40)."""
    method = PaymentMethod.objects.filter(stripe_payment_method_id=stripe_payment_method["id"]).first()
    if method is None:
        return
    if not stripe_payment_method.get("customer"):
        with transaction.atomic():
            card_records.retire(method, now=now)
    else:
        card_records.refresh(method, stripe_payment_method)
    _tell_stripe(method.organization, now)


def _open_setup(organization: Organization, now: datetime) -> tuple[CardSetup, gateway.Object] | None:
    """Return the entry that is still open, and its SetupIntent."""
    unfinished = CardSetup.objects.filter(organization=organization, finished_at=None, refused_reason="")
    setup = unfinished.filter(created_at__gt=now - SETUP_IS_OPEN_FOR, mandate_version=mandates.VERSION).last()
    if setup is None:
        return None
    intent = gateway.retrieve("setup_intents", setup.stripe_setup_intent_id)
    return (setup, intent) if intent["status"] in _OPEN_STATUSES else None


def _new_setup(
    organization: Organization, customer: Customer, number: int, address: str, now: datetime
) -> tuple[CardSetup, gateway.Object]:
    """Begin the organization's entry of this number, once however many ask for it."""
    card_limits.check(organization, address=address, now=now)
    stripe_id = intents.perform(
        organization=organization,
        verb="setup_intents.create",
        reference=f"card_setup:{organization.public_id}:{number}",
        params={
            "customer": customer.stripe_customer_id,
            "usage": "off_session",
            "automatic_payment_methods": {"enabled": True},
            "metadata": {"organization": str(organization.public_id)},
        },
        call=partial(gateway.create, "setup_intents"),
        look_up=lambda: None,  # one that got lost was never shown to anybody
        now=now,
        again=True,
    )
    setup, _ = CardSetup.objects.get_or_create(
        stripe_setup_intent_id=stripe_id,
        defaults={
            "organization": organization,
            "address_mark": card_limits.mark_of(address),
            "mandate_version": mandates.VERSION,
            "mandate_text": mandates.text_for(organization.name),
            "created_at": now,
        },
    )
    return setup, gateway.retrieve("setup_intents", stripe_id)


def _customer_session(customer: Customer) -> str:
    """Return the secret with which Stripe's form may show, save and remove this customer's payment methods."""
    features = {
        "payment_method_redisplay": "enabled",
        "payment_method_save": "enabled",
        "payment_method_save_usage": "off_session",
        "payment_method_remove": "enabled",
    }
    params = {
        "customer": customer.stripe_customer_id,
        "components": {"payment_element": {"enabled": True, "features": features}},
    }
    return str(gateway.create("customer_sessions", params, str(uuid.uuid4()))["client_secret"])


def _check_confirmed(setup: CardSetup, intent: gateway.Object) -> None:
    """Raise SetupDeclined or SetupPending unless Stripe says that the entry succeeded."""
    if intent["status"] == "succeeded":
        return
    error = intent.get("last_setup_error")
    if error:
        raise SetupDeclined(setup, error.get("message") or "The payment method was declined.")
    raise SetupPending(setup, intent["status"])


def _refuse(setup: CardSetup, details: gateway.Object, reason: str, now: datetime) -> None:
    card_records.detach(setup.organization, details["id"], now=now)
    CardSetup.objects.filter(pk=setup.pk).update(refused_reason=reason, finished_at=now)
    log.info("card refused", organization_id=setup.organization_id, setup_id=setup.pk)
    raise CardRefused(setup, reason)


def _adopt(stripe_setup_intent: gateway.Object, now: datetime) -> None:
    """Take over a card saved on Stripe's own pages, where its mandate was accepted; ignore other customers'."""
    customer = Customer.objects.filter(stripe_customer_id=stripe_setup_intent.get("customer") or "").first()
    if customer is None or stripe_setup_intent["status"] != "succeeded":
        return
    details = gateway.retrieve("payment_methods", stripe_setup_intent["payment_method"])
    if card_records.is_prepaid(details):
        card_records.detach(customer.organization, details["id"], now=now)
    elif details.get("customer"):
        method = card_records.store(customer.organization, details, now=now, setup=None)
        welcome_cards.judge(method, now=now)
        _tell_stripe(customer.organization, now)


def _tell_stripe(organization: Organization, now: datetime) -> None:
    """Make Stripe agree with us on what is removed and what is the default; what agrees already costs one read."""
    removed = organization.payment_methods.filter(removed_at__isnull=False, detached_at=None)
    for method in removed.order_by("id"):
        card_records.detach(organization, method.stripe_payment_method_id, now=now)
        PaymentMethod.objects.filter(pk=method.pk).update(detached_at=now)
    card_records.agree_on_default(organization, now=now)


def _accrued_micros(organization: Organization, now: datetime) -> int:
    """Return what is accrued and unpaid; an organization without books owes nothing."""
    account = Account.objects.filter(organization=organization).first()
    return balances.balance(account, now=now).accrued_micros if account else 0
