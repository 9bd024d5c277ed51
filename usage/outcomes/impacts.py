"""What proposed rules would have done to a month: every conversation that began in it judged anew, as it was told.

The month is streamed, some thousand conversations at a time, and each step is one transaction that says how far the
organization is: memory does not grow with the month, and a worker that was killed loses one step. Compared are the
conversations' outcomes at list price, whoever paid and whenever: so the same rules again change nothing, to the micro.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Exists, OuterRef

from usage import periods
from usage.models import Conversation, RuleImpact, RuleProposal
from usage.outcomes import conversations, judging, rule_documents, rules
from usage.outcomes.conversations import Standing
from usage.outcomes.judging import Judgement, Reason, Rules
from usage.previews import Previews

STEP = 2_000
# So many conversations are judged while somebody waits for the page.
AT_ONCE = 20_000
# A step takes a second at most.
LEASE = timedelta(minutes=1)
_EXAMPLES = 3
_WIDEST = timedelta(hours=15)


class _Told(NamedTuple):
    """A conversation as it stands, under the rules it was frozen with, and what it costs at list price."""

    id: int
    began_at: datetime
    reference: str
    outcome: str
    reason: str
    micros: int
    by_bucket: bool


def begin(proposal: RuleProposal) -> None:
    """Note whom the proposal concerns: who would be judged by it and had conversations. Replaces a former preview."""
    proposal.impacts.all().delete()
    any_ = Conversation.objects.filter(organization_id=OuterRef("pk"))
    concerned = rules.judged_by(proposal.book, at=proposal.starts_at).filter(Exists(any_)).order_by("id")
    found = concerned.values_list("pk", flat=True)
    RuleImpact.objects.bulk_create(
        (RuleImpact(proposal=proposal, organization_id=pk) for pk in found.iterator()), batch_size=1_000
    )


def is_small(proposal: RuleProposal) -> bool:
    """Say whether the month holds so few conversations that somebody may wait for them."""
    starts_at, ends_at = periods.bounds(proposal.month, UTC)
    among = Conversation.objects.filter(
        organization__in=proposal.impacts.values("organization"),
        began_at__range=(starts_at - _WIDEST, ends_at + _WIDEST),
    )
    return among.order_by().values("pk")[: AT_ONCE + 1].count() <= AT_ONCE


def progress(proposal: RuleProposal) -> tuple[int, int, int]:
    """Return how many organizations are judged, of how many, and how many conversations those had."""
    found = list(proposal.impacts.values_list("is_done", "conversations"))
    return sum(done for done, _ in found), len(found), sum(judged for _, judged in found)


def _judge_some(proposal: RuleProposal, impact: RuleImpact, proposed: Rules) -> None:
    """Judge some conversations of an organization anew."""
    told = _after(impact, proposal.month)
    _judge(impact, told, proposed)
    impact.is_done = len(told) < STEP


def _after(impact: RuleImpact, month: date) -> list[_Told]:
    starts_at, ends_at = periods.bounds(month, impact.organization.zone)
    began_at, pk = impact.place or (starts_at.isoformat(), 0)
    with connection.cursor() as cursor:
        cursor.execute(_NEXT, [impact.organization_id, began_at, pk, starts_at, ends_at, STEP])
        return [_Told(*row) for row in cursor.fetchall()]


def _judge(impact: RuleImpact, told: list[_Told], proposed: Rules) -> None:
    """Add what conversations cost, and what they would have, to an organization's impact."""
    standings = [Standing(each.id, impact.organization_id, None, None, None) for each in told]
    known = conversations.facts(standings)
    for each in told:
        after = judging.judge(known[each.id], proposed)
        micros = proposed.prices[after.outcome] if after.outcome else 0
        _add(impact.before, each.outcome, each.micros)
        _add(impact.after, after.outcome, micros)
        impact.before_micros += each.micros
        impact.after_micros += micros
        impact.by_bucket += each.by_bucket
        if after.outcome != each.outcome:
            _flip(impact.flips, each, after)
    impact.change_micros = impact.after_micros - impact.before_micros
    impact.conversations += len(told)
    if told:
        impact.place = (told[-1].began_at.isoformat(), told[-1].id)


def _add(sums: dict[str, list[int]], outcome: str, micros: int) -> None:
    if outcome:
        count, sum_ = sums.get(outcome, (0, 0))
        sums[outcome] = [count + 1, sum_ + micros]


def _flip(flips: dict[str, dict[str, Any]], told: _Told, after: Judgement) -> None:
    before = f"{told.outcome}:{Reason.ASSUMED if told.reason == Reason.ASSUMED else ''}" if told.outcome else ""
    becomes = f"{after.outcome}:{Reason.ASSUMED if after.reason == Reason.ASSUMED else ''}" if after.outcome else ""
    flip = flips.setdefault(f"{before}>{becomes}", {"count": 0, "examples": []})
    flip["count"] += 1
    if len(flip["examples"]) < _EXAMPLES:
        flip["examples"].append(told.reference)


def _summary(proposal: RuleProposal) -> dict[str, Any]:
    """Add up the organizations, without holding them all."""
    total: Counter[str] = Counter()
    before: dict[str, list[int]] = {}
    after: dict[str, list[int]] = {}
    flips: Counter[str] = Counter()
    for impact in _all(proposal):
        verdict = "dearer" if impact.change_micros > 0 else "cheaper" if impact.change_micros < 0 else "alike"
        total.update({verdict: 1, "organizations": 1, "conversations": impact.conversations})
        total.update(by_bucket=impact.by_bucket)
        total.update(before_micros=impact.before_micros, after_micros=impact.after_micros)
        for sums, of in ((before, impact.before), (after, impact.after)):
            for outcome, (count, micros) in of.items():
                known = sums.get(outcome, [0, 0])
                sums[outcome] = [known[0] + count, known[1] + micros]
        flips.update({change: flip["count"] for change, flip in impact.flips.items()})
    return {**total, "before": before, "after": after, "flips": dict(flips)}


def _all(proposal: RuleProposal) -> Iterator[RuleImpact]:
    return proposal.impacts.order_by("id").iterator(chunk_size=500)


_previews = Previews(
    model=RuleProposal,
    prepared=lambda proposal: rules.proposed(rule_documents.entry(proposal.document)),
    step=_judge_some,
    summary=_summary,
    lease=LEASE,
)

run, abandoned = _previews.run, _previews.abandoned

# The charge that stands says whether a bucket paid. Forward through the index that lists by start.
_NEXT = """
    SELECT c.id, c.began_at, c.reference, c.outcome, c.reason, coalesce(p.price_micros, 0), h.bucket_id IS NOT NULL
    FROM usage_conversation c
    LEFT JOIN usage_outcomeprice p ON (p.version_id, p.outcome) = (c.rules_id, c.outcome)
    LEFT JOIN usage_outcomecharge h ON h.id = c.charge_id
    WHERE c.organization_id = %s AND (c.began_at, c.id) > (%s, %s) AND c.began_at >= %s AND c.began_at < %s
    ORDER BY c.began_at, c.id LIMIT %s"""
