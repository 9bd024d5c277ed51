"""What may be chosen instead, public and priced as it must be, and what a choice makes of a call's products."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from accounts.models import Organization
from usage import prices
from usage.models import Component
from usage.snapshots import Rate, Snapshot

# The components whose product can be chosen: a call that had one gets the chosen one instead.
CHOSEN = (Component.VOICE, Component.LLM, Component.TELEPHONY)


class NothingChosen(Exception):
    """The choice leaves everything as it was."""

    def __str__(self) -> str:
        return "Choose another plan, model, voice or telephony to compare with."


class NotOffered(Exception):
    """What was chosen is not public, or has no price in the plan; `field` names it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


@dataclass(frozen=True, slots=True)
class Choice:
    """A price version by its id (none: as charged), and products by component (empty: as they were)."""

    plan: int | None = None
    voice: str = ""
    llm: str = ""
    telephony: str = ""

    @property
    def products(self) -> dict[str, str]:
        """The chosen products by component."""
        chosen = {Component.VOICE: self.voice, Component.LLM: self.llm, Component.TELEPHONY: self.telephony}
        return {str(component): product for component, product in chosen.items() if product}


@dataclass(frozen=True, slots=True)
class Offer:
    """What an organization may choose from: public plans in force, and their priced products by component."""

    plans: tuple[Snapshot, ...]
    products: Mapping[str, tuple[Rate, ...]]


def offer(organization: Organization, *, now: datetime) -> Offer:
    """Return what may be chosen: the newest public prices in force, and the products they have."""
    plans = tuple(prices.public(organization.currency, at=now))
    rates = {rate.product: rate for plan in plans for rate in plan.rates.values()}
    products = {
        str(component): tuple(
            sorted((rate for rate in rates.values() if rate.component == component), key=lambda rate: rate.product)
        )
        for component in CHOSEN
    }
    return Offer(plans, products)


def check(choice: Choice, offered: Offer) -> None:
    """Raise NothingChosen, or NotOffered, for a choice that cannot be computed."""
    if choice == Choice():
        raise NothingChosen
    plan = next((each for each in offered.plans if each.version_id == choice.plan), None)
    if choice.plan is not None and plan is None:
        raise NotOffered("plan", "These prices are not public, or not in force. Choose one of the list.")
    for component, product in choice.products.items():
        if all(rate.product != product for rate in offered.products[component]):
            raise NotOffered(component, "This product has no public price. Choose one of the list.")
        if plan is not None and plan.unpriced((product,)):
            raise NotOffered(component, "The chosen plan has no price for this product. Choose another one.")


def replaced(products: Sequence[str], snapshot: Snapshot, chosen: Mapping[str, str]) -> tuple[str, ...]:
    """Return a call's products with the chosen ones: one a component, where the call had any of it; sorted."""
    kept = set(products)
    for component, product in chosen.items():
        had = {each for each in products if each in snapshot.rates and snapshot.rates[each].component == component}
        if had:
            kept = kept - had | {product}
    return tuple(sorted(kept))
