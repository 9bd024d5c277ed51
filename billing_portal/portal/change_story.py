"""Why usage costs more or less than before, as a page tells it: steps, sentences, and what is behind each step."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from accounts.models import Organization
from billing_portal.ledger import totals
from billing_portal.ledger.models import DISCOUNT, Grant
from billing_portal.portal import formats
from billing_portal.portal.charts import waterfall
from billing_portal.portal.charts.waterfall import Step, Waterfall
from billing_portal.portal.compared_periods import Compared
from usage import changes
from usage.causes import Cause, Explanation, Period

CREDIT = "credit"


@dataclass(frozen=True, slots=True)
class Words:
    """What a cause is called, what it is about, and how it is told when it made usage dearer or cheaper."""

    label: str
    about: str
    dearer: str
    cheaper: str


WORDS: dict[str, Words] = {
    Cause.VOLUME: Words(
        "Number of calls",
        "What the change in the number of calls comes to, at the calls' lengths, products and prices.",
        "there were more calls",
        "there were fewer calls",
    ),
    Cause.DURATION: Words(
        "Length of calls",
        "What longer or shorter calls come to: connected minutes a call, and how they are rounded up for billing.",
        "calls were longer",
        "calls were shorter",
    ),
    Cause.MIX: Words(
        "Models, voices and lines",
        "What another choice of products comes to: each one's share of the minutes, or of the calls.",
        "dearer models, voices or lines were used",
        "cheaper models, voices or lines were used",
    ),
    Cause.PRICE: Words(
        "Prices",
        "What changed rates come to, and changed rules of billing: minimums, increments, free time, thresholds.",
        "prices went up",
        "prices went down",
    ),
    Cause.TOKENS: Words(
        "Tokens",
        "What longer or shorter prompts come to: the token surcharge beside the models' time, and products that are "
        "priced by the token.",
        "prompts were longer",
        "prompts were shorter",
    ),
    Cause.CORRECTIONS: Words(
        "Corrections",
        "What later corrections of calls added, or gave back as credit.",
        "calls were corrected",
        "calls were corrected",
    ),
    CREDIT: Words(
        "Credit used",
        "What credit paid of the usage, before the rest went on the invoice.",
        "less credit was used",
        "more credit was used",
    ),
    DISCOUNT: Words(
        "Discounts",
        "What discounts took off what credit left, before it went on the invoice.",
        "less was discounted",
        "more was discounted",
    ),
}


@dataclass(frozen=True, slots=True)
class Story:
    """All that the page says; `parts` are exact and lead from the amount before to the one after."""

    explanation: Explanation
    parts: Mapping[str, int]
    picture: Waterfall
    headline: str
    because: str
    is_empty: bool


def of(organization: Organization, compared: Compared, *, here: str) -> Story:
    """Return the story of a change; `here` is the page's address, below which each step has one of its own."""
    explanation = changes.between(organization.pk, compared.before, compared.after)
    parts: dict[str, int] = {str(cause): micros for cause, micros in explanation.parts.items()}
    before, after = explanation.before.micros, explanation.after.micros
    has_credit = False
    if compared.is_billed:
        spent = [credit_of(organization, compared, at) for at in (0, 1)]
        before, after = (used - sum(credit.values()) for used, credit in zip((before, after), spent, strict=True))
        has_credit = any(map(sum, (credit.values() for credit in spent)))
        discounted = [credit.pop(DISCOUNT, 0) for credit in spent]
        parts[DISCOUNT] = discounted[0] - discounted[1]
        given_back = [credit.pop(Grant.Kind.CORRECTION, 0) for credit in spent]
        parts[Cause.CORRECTIONS] += given_back[0] - given_back[1]
        parts[CREDIT] = sum(spent[0].values()) - sum(spent[1].values())
    picture = waterfall.of(
        Step("before", compared.before_name, _sums(explanation.before), before, is_total=True),
        [_step(cause, micros, explanation, _address(here, cause, compared)) for cause, micros in _told(parts)],
        Step("after", compared.after_name, _sums(explanation.after), after, is_total=True),
        currency=organization.currency,
    )
    return Story(
        explanation=explanation,
        parts=parts,
        picture=picture,
        headline=_headline(compared, (before, after), has_credit, organization.currency),
        because=_because(parts, before, organization.currency),
        is_empty=not (explanation.before.calls or explanation.after.calls or before or after),
    )


def credit_of(organization: Organization, compared: Compared, at: int) -> dict[str, int]:
    """Return what came off one of the billed months (0 is the earlier one), by the kind of grant, or as discount."""
    month = (compared.before, compared.after)[at].billed_month
    assert month is not None, "only billed months have credit"
    paid: dict[str, int] = {}
    for (kind, _), micros in totals.month(organization.pk, month).burnt.items():
        paid[kind] = paid.get(kind, 0) + micros
    return paid


def _told(parts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the causes in their order; corrections, credit and discounts only where there are any."""
    not_always = (Cause.CORRECTIONS, CREDIT, DISCOUNT)
    return [(cause, parts[cause]) for cause in WORDS if parts.get(cause) or cause not in not_always]


def cause_of(kind: str) -> str:
    """Return the step in which credit of this kind, or a discount, is told."""
    return {Grant.Kind.CORRECTION: Cause.CORRECTIONS, DISCOUNT: DISCOUNT}.get(kind, CREDIT)


def _step(cause: str, micros: int, explanation: Explanation, href: str) -> Step:
    return Step(cause, WORDS[cause].label, _detail(cause, explanation), micros, href=href if micros else "")


def _address(here: str, cause: str, compared: Compared) -> str:
    return f"{here}{cause}/" + (f"?{compared.query}" if compared.query else "")


def _detail(cause: str, explanation: Explanation) -> str:
    """Return the figures behind a cause, then and now."""
    before, after = explanation.before, explanation.after
    if cause == Cause.VOLUME:
        return f"{formats.quantity(before.calls)} → {formats.quantity(after.calls)} calls"
    if cause == Cause.DURATION:
        return f"{_a_call(before.duration_ms, before)} → {_a_call(after.duration_ms, after)} a call"
    if cause == Cause.PRICE:
        changed = sum(bool(each.parts[Cause.PRICE]) for each in explanation.products)
        return f"{changed} product{'s' if changed > 1 else ''} with other prices" if changed else "As before"
    if cause == Cause.MIX:
        return "" if explanation.parts[Cause.MIX] else "As before"
    if cause == Cause.TOKENS and explanation.parts[Cause.TOKENS]:
        return f"{_tokens_a_call(before)} → {_tokens_a_call(after)} tokens a call"
    if cause == Cause.TOKENS:
        return "No surcharge, or the same share of it"
    return ""


def _sums(usage: Period) -> str:
    calls = f"{formats.quantity(usage.calls)} call{'' if usage.calls == 1 else 's'}"
    return f"{calls}, {formats.minutes(usage.duration_ms)} minutes"


def _a_call(duration_ms: int, usage: Period) -> str:
    return formats.duration(duration_ms // usage.calls) if usage.calls else "–"


def _tokens_a_call(usage: Period) -> str:
    return formats.quantity(round(Fraction(usage.llm_tokens, usage.calls))) if usage.calls else "–"


def _headline(compared: Compared, amounts: tuple[int, int], credit: bool, currency: str) -> str:
    before, after = amounts
    lead = f"{compared.after_name} came to {formats.money(after, currency)}{' after credit' if credit else ''}"
    if before == after:
        return f"{lead}, the same as {compared.before_name}."
    (difference,) = waterfall.shown_changes(before, [after - before], currency=currency)
    more = "more" if after > before else "less"
    return f"{lead}: {formats.money(abs(difference), currency)} {more} than {compared.before_name}."


def _because(parts: Mapping[str, int], before: int, currency: str) -> str:
    """Return the causes as one sentence, the largest first; the amounts are those of the picture."""
    told = _told(parts)
    shown = waterfall.shown_changes(before, [micros for _, micros in told], currency=currency)
    clauses = [
        f"{formats.money(abs(micros), currency)} {'more' if micros > 0 else 'less'} because "
        + (WORDS[cause].dearer if micros > 0 else WORDS[cause].cheaper)
        for (cause, _), micros in sorted(zip(told, shown, strict=True), key=lambda each: -abs(each[1]))
        if micros
    ]
    if not clauses:
        return ""
    text = clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])}, and {clauses[-1]}"
    return f"{text[0].upper()}{text[1:]}."
