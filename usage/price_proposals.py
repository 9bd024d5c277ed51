"""New prices of calls, from a proposal to the version in the book: what `usage.proposing` has to know of prices."""

from datetime import datetime
from typing import Any

from usage import price_documents, price_impacts, prices
from usage.models import PriceProposal, PriceVersion
from usage.proposing import Proposals


def _starts_at(document: dict[str, Any]) -> datetime:
    return price_documents.version(price_impacts.version_in(document)).starts_at


def _enter(proposal: PriceProposal, number: int, now: datetime) -> PriceVersion:
    book = proposal.book
    whole = {
        "reference": book.reference,
        "name": book.name,
        "currency": book.currency,
        "default": book.is_default,
        "organization": book.organization.reference if book.organization else None,
        "versions": [{**price_impacts.version_in(proposal.document), "number": number}],
    }
    return prices.load({"books": [whole]}, now=now)[0]


def _remove(version: PriceVersion) -> None:
    version.rates.all().delete()
    version.delete()


_prices = Proposals(
    model=PriceProposal,
    starts_at=_starts_at,
    versions=lambda book: book.versions.all(),
    begin=price_impacts.begin,
    enter=_enter,
    is_editable=prices.editable,
    remove=_remove,
)

propose, preview_again, withdraw = _prices.propose, _prices.preview_again, _prices.withdraw
ask, approve, decline, revoke = _prices.ask, _prices.approve, _prices.decline, _prices.revoke
