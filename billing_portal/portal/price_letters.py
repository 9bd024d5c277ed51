"""The mail that tells customers of new prices of calls, with what they mean on the customer's own last month."""

from datetime import datetime

from accounts import letters
from billing_portal.portal import price_news, proposal_letters
from usage.models import PriceImpact, PriceProposal


def tell(*, now: datetime, limit: int = 1_000) -> int:
    """Write to up to `limit` organizations of prices that were entered; return how many that were. Safe twice."""
    return proposal_letters.tell(PriceProposal, _write, now=now, limit=limit)


def tell_of_ends(*, now: datetime, limit: int = 1_000) -> int:
    """Write to up to `limit` organizations that prices they were told of do not come; return how many. Safe twice."""
    return proposal_letters.tell_of_ends(PriceProposal, "prices_taken_back", now=now, limit=limit)


def _write(impact: PriceImpact, now: datetime) -> None:
    organization, version = impact.organization, impact.proposal.version
    assert version is not None
    coming = price_news.of(organization, now=now).coming
    news = next((each for each in coming if each.version == version), None)
    if news is None:  # it is in force by now, or the organization has prices of its own since
        return
    letters.write(
        template="emails/prices_coming",
        reference=f"prices-coming:{version.pk}:{organization.pk}",
        to=letters.billing_addresses(organization),
        organization=organization,
        news=news,
        now=now,
    )
