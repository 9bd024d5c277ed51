"""What the desk's pages of outcome rules show: versions in words, and previews in figures."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Prefetch

from usage import before_after
from usage.before_after import Row
from usage.models import OutcomeRuleVersion, OutcomeType, PriceBook, RuleImpact, RuleProposal
from usage.outcomes import explanations, impacts, rule_documents, rule_texts, rules
from usage.outcomes.judging import Rules
from usage.outcomes.rule_texts import PriceChange

_LISTED = 25


@dataclass(frozen=True, slots=True)
class VersionShown:
    """One version of a book's rules, as a person reads it."""

    version: OutcomeRuleVersion
    texts: list[str]
    prices: list[tuple[str, int]]
    is_in_force: bool
    is_coming: bool


@dataclass(frozen=True, slots=True)
class ProposalShown:
    """A proposal beside the rules that would be in force without it."""

    texts: list[str]
    prices: list[tuple[str, int]]
    until_then: list[str]
    from_then_on: list[str]
    price_changes: list[PriceChange]
    compares_with: str
    progress: tuple[int, int, int]
    rows: list[Row]
    change_micros: int
    flips: list[tuple[str, int, list[str]]]
    dearer: list[RuleImpact]
    cheaper: list[RuleImpact]


def books(*, now: datetime) -> list[tuple[PriceBook, list[VersionShown]]]:
    """Return the books that can have rules with their versions, the newest first."""
    versions = OutcomeRuleVersion.objects.prefetch_related("prices").order_by("-starts_at", "-id")
    found = PriceBook.objects.select_related("organization").prefetch_related(Prefetch("outcome_rules", versions))
    return [(book, _versions(list(book.outcome_rules.all()), now)) for book in found.order_by("-is_default", "name")]


def of(proposal: RuleProposal) -> ProposalShown:
    """Return what the page of a proposal shows."""
    after = rules.proposed(rule_documents.entry(proposal.document))
    version = _before(proposal)
    before = rules.plain(version) if version else None
    until_then, from_then_on = rule_texts.differing(before, after) if before else ([], explanations.texts(after))
    summary: dict[str, Any] = proposal.summary or {}
    judged = proposal.impacts.select_related("organization")
    return ProposalShown(
        texts=explanations.texts(after),
        prices=_prices(after),
        until_then=until_then,
        from_then_on=from_then_on,
        price_changes=rule_texts.price_changes(before, after) if before else [],
        compares_with=str(version or ""),
        progress=impacts.progress(proposal) if proposal.state == proposal.State.PREVIEWING else (0, 0, 0),
        rows=before_after.by_outcome(summary.get("before", {}), summary.get("after", {})),
        change_micros=summary.get("after_micros", 0) - summary.get("before_micros", 0),
        flips=_flips(proposal, summary),
        dearer=list(judged.filter(change_micros__gt=0).order_by("-change_micros", "id")[:_LISTED]),
        cheaper=list(judged.filter(change_micros__lt=0).order_by("change_micros", "id")[:_LISTED]),
    )


def _before(proposal: RuleProposal) -> OutcomeRuleVersion | None:
    """Return the version that would judge conversations at the proposal's start without it."""
    others = proposal.book.outcome_rules.exclude(proposal=proposal).prefetch_related("prices")
    return others.filter(starts_at__lt=proposal.starts_at).order_by("-starts_at", "-id").first()


def _flips(proposal: RuleProposal, summary: dict[str, Any]) -> list[tuple[str, int, list[str]]]:
    """Return each kind of change, how many, and some conversations to look at."""
    examples: dict[str, list[str]] = {}
    for impact in proposal.impacts.exclude(flips={}).order_by("id")[:_LISTED]:
        for change, flip in impact.flips.items():
            examples.setdefault(change, []).extend(flip["examples"])
    counted = sorted(summary.get("flips", {}).items(), key=lambda each: -each[1])
    return [(rule_texts.flip(change), count, examples.get(change, [])[:5]) for change, count in counted]


def _versions(versions: list[OutcomeRuleVersion], now: datetime) -> list[VersionShown]:
    in_force = next((each for each in versions if each.starts_at <= now), None)
    return [
        VersionShown(
            version=each,
            texts=explanations.texts(rules.plain(each)),
            prices=_prices(rules.plain(each)),
            is_in_force=each == in_force,
            is_coming=each.starts_at > now,
        )
        for each in versions
    ]


def _prices(version: Rules) -> list[tuple[str, int]]:
    return [(str(each.label), version.prices[each]) for each in OutcomeType if each in version.prices]
