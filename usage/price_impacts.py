"""What proposed prices would have done to a month: every call billed in it rated anew, organization by organization.

The same rating as a what-if's: exact, and without reading calls one by one. Compared is what calls cost, whoever paid;
the same prices again change nothing, to the micro. A call whose products the proposed prices lack keeps its charge, and
is counted: under them it could not be priced.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet, Sum

from accounts.models import Organization
from usage import price_documents
from usage.models import DailyUsage, PriceBook, PriceImpact, PriceProposal, PriceVersion
from usage.previews import Previews
from usage.price_documents import BookEntry
from usage.snapshots import Snapshot
from usage.what_if import rerating
from usage.what_if.choices import Choice

# So many calls are rated while somebody waits for the page.
AT_ONCE = 100_000
# A month of the largest organization takes some seconds, and is one step.
LEASE = timedelta(minutes=3)
# Ids of what is not stored stand apart from those of what is.
_UNSTORED = -1_000_000


def begin(proposal: PriceProposal) -> None:
    """Note whom the proposal concerns: who would pay by it and had calls. Replaces a former preview."""
    proposal.impacts.all().delete()
    used = DailyUsage.objects.filter(organization_id=OuterRef("pk"))
    concerned = payers_of(proposal.book, at=proposal.starts_at).filter(Exists(used)).order_by("id")
    found = concerned.values_list("pk", flat=True)
    PriceImpact.objects.bulk_create(
        (PriceImpact(proposal=proposal, organization_id=pk) for pk in found.iterator()), batch_size=1_000
    )


def payers_of(book: PriceBook, *, at: datetime) -> QuerySet[Organization]:
    """Return the organizations whose calls that start `at` this book would price.

    A public book is for those of its currency without prices of their own by then.
    """
    if book.organization_id is not None:
        return Organization.objects.filter(pk=book.organization_id)
    if not book.is_default:
        return Organization.objects.none()
    own = PriceVersion.objects.filter(book__organization=OuterRef("pk"), starts_at__lte=at)
    return Organization.objects.filter(~Exists(own), currency=book.currency)


def is_small(proposal: PriceProposal) -> bool:
    """Say whether the month holds so few calls that somebody may wait for them."""
    concerned = proposal.impacts.values("organization")
    days = DailyUsage.objects.filter(organization__in=concerned, billed_month=proposal.month)
    return int(days.aggregate(calls=Sum("calls"))["calls"] or 0) <= AT_ONCE


def progress(proposal: PriceProposal) -> tuple[int, int, int]:
    """Return how many organizations are rated, of how many, and how many calls those had."""
    found = list(proposal.impacts.values_list("is_done", "calls"))
    return sum(done for done, _ in found), len(found), sum(calls for _, calls in found)


def proposed(proposal: PriceProposal) -> Snapshot:
    """Return the version that is proposed, as it would price calls; its ids are none that are stored."""
    version = price_documents.version(version_in(proposal.document))
    book = BookEntry(proposal.book.reference, proposal.book.name, proposal.book.currency, [version])
    return price_documents.snapshot(book, version, _UNSTORED)


def version_in(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the version alone of a proposal's document, which names the book too."""
    return {name: value for name, value in document.items() if name != "book"}


def _rate(proposal: PriceProposal, impact: PriceImpact, plan: Snapshot) -> None:
    rated = rerating.month(impact.organization_id, proposal.month, Choice(), plan=plan)
    impact.calls, impact.kept_calls = rated.calls, rated.kept_calls
    impact.before, impact.after = dict(rated.now), dict(rated.then)
    impact.before_micros, impact.after_micros = sum(rated.now.values()), sum(rated.then.values())
    impact.change_micros = impact.after_micros - impact.before_micros
    impact.is_done = True


def _summary(proposal: PriceProposal) -> dict[str, Any]:
    """Add up the organizations, without holding them all."""
    total: Counter[str] = Counter()
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for impact in proposal.impacts.order_by("id").iterator(chunk_size=500):
        verdict = "dearer" if impact.change_micros > 0 else "cheaper" if impact.change_micros < 0 else "alike"
        total.update({verdict: 1, "organizations": 1, "calls": impact.calls, "kept_calls": impact.kept_calls})
        total.update(before_micros=impact.before_micros, after_micros=impact.after_micros)
        before.update(impact.before)
        after.update(impact.after)
    return {**total, "before": dict(before), "after": dict(after)}


_previews = Previews(model=PriceProposal, prepared=proposed, step=_rate, summary=_summary, lease=LEASE)

run, abandoned = _previews.run, _previews.abandoned
