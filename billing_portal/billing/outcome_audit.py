"""The month's outcomes, one by one: judged anew from their events, priced by their rules, counted as settled."""

from collections import Counter
from collections.abc import Iterator
from datetime import date

from billing_portal.billing.call_audit import Difference
from billing_portal.ledger.models import Settlement
from usage.models import Billable, Conversation, OutcomeCharge, OutcomePrice
from usage.outcomes import charges, conversations, recording

_CHUNK = 1_000


def audit(organization_id: int, month: date) -> Iterator[Difference]:
    """Yield every difference between a month's events, judgements, charges, settlements and the rollup of outcomes."""
    yield from _settled(organization_id, month)
    yield from _priced(organization_id, month)
    yield from _judged(organization_id, month)
    for day, outcome, ours, theirs in charges.differences(organization_id):
        cause = "The rollup does not hold what was settled; rebuild it."
        yield Difference("rollups", f"{Billable(outcome).label}, {day}", ours, theirs, cause)


def _settled(organization_id: int, month: date) -> Iterator[Difference]:
    """Compare each settlement's lines with the charges in its range, and see that none is missing."""
    settlements = Settlement.objects.filter(
        organization_id=organization_id, month=month, source=Settlement.Source.OUTCOMES
    )
    for settlement in settlements.order_by("first_sequence").prefetch_related("lines"):
        subject = f"outcomes {settlement.first_sequence}–{settlement.last_sequence}"
        charged: Counter[str] = Counter()
        found = OutcomeCharge.objects.filter(
            organization_id=organization_id,
            sequence__range=(settlement.first_sequence, settlement.last_sequence),
        )
        numbers = 0
        for outcome, micros in found.values_list("outcome", "amount_micros"):
            charged[outcome] += micros or 0
            numbers += 1
        expected = settlement.last_sequence - settlement.first_sequence + 1
        if numbers != expected:
            yield Difference("sequence", subject, expected, numbers, "Some outcomes of it are missing.")
        lines = {line.component: line.gross_micros for line in settlement.lines.all()}
        for outcome in sorted(charged.keys() | lines.keys()):
            if charged[outcome] != lines.get(outcome, 0):
                cause = "The settlement holds another sum than its outcomes."
                yield Difference("settlements", subject, charged[outcome], lines.get(outcome, 0), cause)


def _priced(organization_id: int, month: date) -> Iterator[Difference]:
    """Compare each charge with the price in its rules; one that a bucket paid for costs nothing."""
    prices = {(price.version_id, price.outcome): price.price_micros for price in OutcomePrice.objects.all()}
    of_month = OutcomeCharge.objects.filter(organization_id=organization_id, billed_month=month, kind="charge")
    for charge in of_month.order_by("sequence").select_related("conversation").iterator(chunk_size=_CHUNK):
        listed = prices.get((charge.rules_id, charge.outcome))
        due = 0 if charge.bucket_id else listed
        if listed != charge.price_micros or due != charge.amount_micros:
            subject = f"conversation {charge.conversation.reference}, charge {charge.sequence}"
            yield Difference("charges", subject, due, charge.amount_micros, "Its rules have another price.")


def _judged(organization_id: int, month: date) -> Iterator[Difference]:
    """Judge the conversations charged in the month anew, from their events."""
    charged = OutcomeCharge.objects.filter(organization_id=organization_id, billed_month=month)
    known = Conversation.objects.filter(organization_id=organization_id, pk__in=charged.values("conversation_id"))
    rows = list(known.order_by("id"))
    for start in range(0, len(rows), _CHUNK):
        chunk = {row.pk: row for row in rows[start : start + _CHUNK]}
        standings = [conversations.Standing(pk, organization_id, None, None, None) for pk in chunk]
        for judged in recording.judge(standings):
            row = chunk[judged.standing.id]
            anew = (judged.judgement.outcome, judged.judgement.reason, judged.judgement.decided_at)
            if anew != (row.outcome, row.reason, row.decided_at):
                cause = f"Its events come to {anew[0] or 'nothing'}, it is kept as {row.outcome or 'nothing'}."
                yield Difference("outcomes", f"conversation {row.reference}", None, None, cause)
