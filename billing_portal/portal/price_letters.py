"""The mail that tells customers of new prices of calls, with what they mean on the customer's own last month."""

from datetime import datetime

from billing_portal.portal import price_news, proposal_letters
from usage.models import PriceImpact, PriceProposal


def tell(*, now: datetime, limit: int = 1_000) -> int:
    """Write to up to `limit` organizations of prices that were entered; return how many that were. Safe twice."""
    return proposal_letters.tell(PriceProposal, _write, now=now, limit=limit)


def tell_of_ends(*, now: datetime, limit: int = 1_000) -> int:
    """Write to up to `limit` organizations that prices they were told of do not come; return how many. Safe twice."""
    return proposal_letters.tell_of_ends(PriceProposal, "prices_taken_back", now=now, limit=limit)


def _write(impact: PriceImpact, now: datetime) -> None:
    coming = price_news.of(impact.organization, now=now).coming
    proposal_letters.write(impact, coming, what="prices", now=now)
