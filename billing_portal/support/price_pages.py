"""What the desk's pages of prices show: books with their versions, and proposals in figures."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from usage import before_after, price_impacts, price_texts, prices
from usage.before_after import Row
from usage.models import PriceBook, PriceImpact, PriceProposal, PriceVersion
from usage.price_texts import RateChange

_LISTED = 25


@dataclass(frozen=True, slots=True)
class VersionShown:
    """One version of a book, and where it stands."""

    version: PriceVersion
    is_in_force: bool
    is_coming: bool


@dataclass(frozen=True, slots=True)
class ProposalShown:
    """A proposal beside the prices that would be in force without it."""

    rates: list[RateChange]
    terms: list[str]
    compares_with: str
    progress: tuple[int, int, int]
    rows: list[Row]
    change_micros: int
    dearer: list[PriceImpact]
    cheaper: list[PriceImpact]


def books(*, now: datetime) -> list[tuple[PriceBook, list[VersionShown]]]:
    """Return the books with their versions, the newest first."""
    found = PriceBook.objects.select_related("organization").order_by("-is_default", "name", "id")
    return [(book, _versions(book, now)) for book in found.prefetch_related("versions__rates")]


def of(proposal: PriceProposal) -> ProposalShown:
    """Return what the page of a proposal shows."""
    after, version = price_impacts.proposed(proposal), followed_by(proposal)
    before = prices.snapshot(version.pk) if version else None
    summary: dict[str, Any] = proposal.summary or {}
    judged = proposal.impacts.select_related("organization")
    return ProposalShown(
        rates=price_texts.rate_changes(before, after),
        terms=price_texts.term_changes(before, after),
        compares_with=str(version or ""),
        progress=price_impacts.progress(proposal) if proposal.state == proposal.State.PREVIEWING else (0, 0, 0),
        rows=before_after.by_component(summary.get("before", {}), summary.get("after", {})),
        change_micros=summary.get("after_micros", 0) - summary.get("before_micros", 0),
        dearer=list(judged.filter(change_micros__gt=0).order_by("-change_micros", "id")[:_LISTED]),
        cheaper=list(judged.filter(change_micros__lt=0).order_by("change_micros", "id")[:_LISTED]),
    )


def followed_by(proposal: PriceProposal) -> PriceVersion | None:
    """Return the version that would price calls at the proposal's start without it."""
    others = proposal.book.versions.exclude(pk=proposal.version_id or 0).filter(rates__isnull=False)
    return others.filter(starts_at__lt=proposal.starts_at).order_by("-starts_at", "-id").first()


def _versions(book: PriceBook, now: datetime) -> list[VersionShown]:
    newest_first = sorted(book.versions.all(), key=lambda each: (each.starts_at, each.pk), reverse=True)
    in_force = next((each for each in newest_first if each.starts_at <= now), None)
    return [VersionShown(each, each == in_force, each.starts_at > now) for each in newest_first]
