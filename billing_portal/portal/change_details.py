"""What is behind one step of a change: products then and now, agents, credit, and the addresses of the calls."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from accounts.models import Organization
from billing_portal.ledger.models import DISCOUNT, OFF_THE_INVOICE
from billing_portal.portal import change_story, formats
from billing_portal.portal.compared_periods import Compared
from usage import rollups
from usage.causes import Cause, Explanation, Period, ProductChange, Side, Unit
from usage.changes import Span
from usage.models import Component

_AGENTS = 20
# What the figures of a cause are.
FIGURES = {
    Cause.VOLUME: "Calls",
    Cause.DURATION: "A call, on average",
    Cause.MIX: "Share",
    Cause.PRICE: "Rate",
    Cause.TOKENS: "Tokens a call",
    Cause.CORRECTIONS: "Amount",
}
_A = {
    Unit.MINUTE: "a minute",
    Unit.SECOND: "a second",
    Unit.CALL: "a call",
    Unit.THOUSAND_TOKENS: "for 1,000 tokens",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a step: its figures then and now, its part in micros, and where the calls of both are listed."""

    label: str
    note: str
    before: str
    after: str
    micros: int
    before_url: str = ""
    after_url: str = ""


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One agent's settled usage then and now."""

    label: str
    before: rollups.Total
    after: rollups.Total

    @property
    def micros(self) -> int:
        return self.after.micros - self.before.micros

    @property
    def calls(self) -> int:
        return self.after.calls - self.before.calls


def products(explanation: Explanation, compared: Compared, cause: Cause, *, calls_at: str, currency: str) -> list[Row]:
    """Return the products that have a part in the step, the largest first; `calls_at` is the list of calls."""
    labels = rollups.labels()
    rows = [
        Row(
            label=_label(each, labels),
            note=Component(each.component).label,
            before=_figure(cause, each, each.before, explanation.before, currency),
            after=_figure(cause, each, each.after, explanation.after, currency),
            micros=each.parts[cause],
            before_url=_calls(calls_at, compared.before, each, each.before),
            after_url=_calls(calls_at, compared.after, each, each.after),
        )
        for each in explanation.products
        if each.parts[cause]
    ]
    return sorted(rows, key=lambda row: (-abs(row.micros), row.label))


def all_products(explanation: Explanation, compared: Compared, *, calls_at: str, currency: str) -> list[Row]:
    """Return every product with what it cost then and now, the largest change first."""
    labels = rollups.labels()
    return [
        Row(
            label=_label(each, labels),
            note=Component(each.component).label,
            before=formats.money_exact(each.before.micros, currency),
            after=formats.money_exact(each.after.micros, currency),
            micros=each.micros,
            before_url=_calls(calls_at, compared.before, each, each.before),
            after_url=_calls(calls_at, compared.after, each, each.after),
        )
        for each in explanation.products
        if each.before.micros or each.after.micros
    ]


def agents(organization: Organization, compared: Compared, cause: Cause) -> list[AgentRow]:
    """Return the agents with the largest change: in calls for the volume, else in what they cost."""
    sides: list[dict[str, rollups.Total]] = []
    names: dict[str, str] = {}
    for span in (compared.before, compared.after):
        found = rollups.by_agent(organization.pk, starts_on=span.starts_on, ends_on=span.ends_on)
        side: dict[str, rollups.Total] = {}
        for reference, name, total in found:
            side[reference] = _added(side.get(reference), total)
            names[reference] = name or reference or "Without an agent"
        sides.append(side)
    nothing = rollups.Total(0, 0, 0)
    rows = [AgentRow(name, *(side.get(reference, nothing) for side in sides)) for reference, name in names.items()]
    by_calls = cause == Cause.VOLUME
    rows.sort(key=lambda row: (-abs(row.calls if by_calls else row.micros), row.label))
    return rows[:_AGENTS]


def credit(organization: Organization, compared: Compared, cause: str) -> list[Row]:
    """Return what credit paid or discounts took off then and now, by kind: what the step of `cause` tells."""
    before, after = (change_story.credit_of(organization, compared, at) for at in (0, 1))
    currency = organization.currency
    return [
        Row(
            label=_OFF[kind],
            note="Off the invoice" if kind == DISCOUNT else "Credit",
            before=formats.money_exact(before.get(kind, 0), currency),
            after=formats.money_exact(after.get(kind, 0), currency),
            micros=before.get(kind, 0) - after.get(kind, 0),
        )
        for kind in sorted({*before, *after})
        if change_story.cause_of(kind) == cause
    ]


_OFF = dict(OFF_THE_INVOICE)


def _label(change: ProductChange, labels: Mapping[str, str]) -> str:
    return labels.get(change.product, change.product)


def _figure(cause: Cause, change: ProductChange, side: Side, usage: Period, currency: str) -> str:
    """Return the figure of a product that the cause is about."""
    if not side.calls:
        return formats.quantity(0) if cause == Cause.VOLUME else "–"
    if cause == Cause.VOLUME:
        return formats.quantity(side.calls)
    if cause == Cause.DURATION:
        return formats.duration(side.duration_ms // side.calls)
    if cause == Cause.TOKENS:
        return formats.quantity(side.llm_tokens // side.calls)
    if cause == Cause.MIX:
        return _share(change, side, usage)
    if cause == Cause.PRICE:
        return _rate(change, side, currency)
    return formats.money_exact(side.micros, currency)


def _share(change: ProductChange, side: Side, usage: Period) -> str:
    if change.unit == Unit.CALL:
        return f"{formats.percent(side.calls, usage.calls)} of calls"
    if change.unit == Unit.THOUSAND_TOKENS:
        return f"{formats.percent(side.llm_tokens, usage.llm_tokens)} of tokens"
    return f"{formats.percent(side.duration_ms, usage.duration_ms)} of minutes"


def _rate(change: ProductChange, side: Side, currency: str) -> str:
    """Return the rate; one that changed within the period as its mean."""
    if side.rate is None or change.unit == Unit.SURCHARGE:
        return "the models' rates" if change.unit == Unit.SURCHARGE else "–"
    mean = "" if side.rate.denominator == 1 else "about "
    return f"{mean}{formats.money_exact(round(side.rate), currency)} {_A[Unit(change.unit)]}"


def _calls(calls_at: str, span: Span, change: ProductChange, side: Side) -> str:
    """Return where the calls are listed; those with a surcharge have no product of their own to filter by."""
    if not side.calls:
        return ""
    query = {"from": f"{span.starts_on}", "to": f"{span.ends_on}"}
    if change.unit != Unit.SURCHARGE:
        query["product"] = change.product
    return f"{calls_at}?{urlencode(query)}"


def _added(one: rollups.Total | None, other: rollups.Total) -> rollups.Total:
    if one is None:
        return other
    return rollups.Total(one.calls + other.calls, one.duration_ms + other.duration_ms, one.micros + other.micros)
