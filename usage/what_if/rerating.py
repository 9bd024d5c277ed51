"""A month's calls rated anew, each by itself and exactly, without reading them one by one.

Calls of one mix whose billable time ends in the same step of all increments cost the same, but for tokens. So the
database counts the calls of each such group and names one duration of it, and `rating.rate` prices that. Only what
depends on a call's tokens, the surcharge and what is priced by the token, is added up by the database itself; a
property test holds that to `rating.rate`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.db import connection

from usage import prices, rating, rollups
from usage.models import Component
from usage.rating import CallFacts
from usage.snapshots import Rate, Snapshot, Unit
from usage.what_if import choices
from usage.what_if.choices import Choice

# For prices without any rate for time: all lengths are one group.
_NO_STEPS = 10**12


@dataclass(frozen=True, slots=True)
class MonthRated:
    """A billed month: its calls, those left as they were charged, and micros by component, as charged and as chosen."""

    month: date
    calls: int
    kept_calls: int
    now: Mapping[str, int]
    then: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Mix:
    """What calls of a mix are rated as."""

    id: int
    products: tuple[str, ...]
    snapshot: Snapshot

    @property
    def rates(self) -> tuple[Rate, ...]:
        return self.snapshot.rates_of(self.products) or ()

    @property
    def step_ms(self) -> int:
        """The length of the steps in which all of the mix's quantities of time go up together."""
        return math.gcd(*(rate.increment_ms for rate in self.rates if rate.is_for_time)) or _NO_STEPS

    @property
    def models(self) -> list[Rate]:
        """The language models whose time a surcharge lengthens."""
        if self.snapshot.surcharge is None:
            return []
        return [rate for rate in self.rates if rate.component == Component.LLM and rate.micros_per_minute]

    @property
    def by_token(self) -> list[Rate]:
        return [rate for rate in self.rates if rate.unit == Unit.THOUSAND_TOKENS]


def month(organization_id: int, month: date, choice: Choice, *, plan: Snapshot | None = None) -> MonthRated:
    """Return what the calls billed in a month would have cost under a choice, or by a `plan` that is not stored.

    A call keeps its charge where the choice changes nothing, and where the prices lack one of its products; what later
    revisions of a call were charged stays, too.
    """
    mixes, changed = _mixes(organization_id, month), {}
    for mix_id, (products, version_id, _) in mixes.items():
        mix = _as_chosen(mix_id, products, version_id, choice, plan)
        if mix is not None:
            changed[mix_id] = mix
    then: Counter[str] = Counter(_as_charged(organization_id, month, without=list(changed)))
    if changed:
        then.update(_rated(organization_id, month, list(changed.values())))
    kept = sum(
        calls
        for mix_id, (products, version_id, calls) in mixes.items()
        if mix_id not in changed and _lacks_a_price(products, version_id, choice, plan)
    )
    now = rollups.component_totals(organization_id, month)
    return MonthRated(month, sum(calls for *_, calls in mixes.values()), kept, _told(now), _told(then))


def _told(amounts: Mapping[str, int]) -> dict[str, int]:
    """Return the components that come to anything."""
    return {str(component): micros for component, micros in amounts.items() if micros}


def _as_chosen(
    mix_id: int, products: Sequence[str], version_id: int, choice: Choice, plan: Snapshot | None
) -> _Mix | None:
    """Return what the mix becomes; None where it stays, or has no price."""
    charged = prices.snapshot(version_id)
    snapshot = plan or (charged if choice.plan is None else prices.snapshot(choice.plan))
    names = choices.replaced(products, charged, choice.products)
    if (snapshot.version_id, names) == (version_id, tuple(sorted(products))) or snapshot.unpriced(names):
        return None
    return _Mix(mix_id, names, snapshot)


def _lacks_a_price(products: Sequence[str], version_id: int, choice: Choice, plan: Snapshot | None) -> bool:
    charged = prices.snapshot(version_id)
    snapshot = plan or (charged if choice.plan is None else prices.snapshot(choice.plan))
    return bool(snapshot.unpriced(choices.replaced(products, charged, choice.products)))


_MIXES = """
    SELECT m.id, m.products, m.price_version_id, sum(d.calls)::bigint
    FROM usage_dailyusage d JOIN usage_productmix m ON m.id = d.mix_id
    WHERE d.organization_id = %s AND d.billed_month = %s GROUP BY m.id ORDER BY m.id"""


def _mixes(organization_id: int, month: date) -> dict[int, tuple[list[str], int, int]]:
    """Return the month's mixes: their products, price version and calls."""
    with connection.cursor() as cursor:
        cursor.execute(_MIXES, [organization_id, month])
        return {mix_id: (products, version, calls) for mix_id, products, version, calls in cursor.fetchall()}


_AS_CHARGED = """
    SELECT r.component, sum(line.micros)::bigint
    FROM usage_dailyusage d
    JOIN usage_productmix m ON m.id = d.mix_id
    CROSS JOIN LATERAL unnest(m.rate_ids, d.line_micros) AS line (rate_id, micros)
    JOIN usage_pricerate r ON r.id = line.rate_id
    WHERE d.organization_id = %s AND d.billed_month = %s AND d.mix_id <> ALL(%s) AND line.micros <> 0 GROUP BY 1"""


def _as_charged(organization_id: int, month: date, *, without: list[int]) -> dict[str, int]:
    """Return what was charged, by component, for the calls of all other mixes."""
    with connection.cursor() as cursor:
        cursor.execute(_AS_CHARGED, [organization_id, month, without])
        return dict(cursor.fetchall())


# The calls of the month's settled ranges, each with the rules of its mix as it is chosen. All ids of a range are of one
# block of the sequence of ids, so that calls may find their range by hash, as in `rollups`.
_CALLS = """
    FROM usage_callrange r
    JOIN usage_call c ON c.organization_id = r.organization_id
     AND c.started_at BETWEEN r.starts_at AND r.ends_at AND c.id BETWEEN r.first_id AND r.last_id
    JOIN unnest(%(mix)s::bigint[], %(grace_ms)s::bigint[], %(free_ms)s::bigint[], %(step_ms)s::bigint[],
                %(threshold)s::bigint[], %(model_rate)s::bigint[]{columns})
      AS rule (mix_id, grace_ms, free_ms, step_ms, threshold, model_rate{names}) ON rule.mix_id = c.mix_id
    WHERE r.organization_id = %(organization)s AND r.billed_month = %(month)s AND r.first_sequence IS NOT NULL
      AND (c.id - 1) / 10000 = (r.first_id - 1) / 10000"""

_GROUPS = """
    SELECT c.mix_id, CASE WHEN c.duration_ms < rule.grace_ms THEN -1
                          ELSE (greatest(c.duration_ms - rule.free_ms, 0) + rule.step_ms - 1) / rule.step_ms END,
           c.revision > 1, count(*), min(c.duration_ms), {surcharge}{tokens}
    {calls} GROUP BY 1, 2, 3"""

# As `rating.surcharge_seconds` and `rating._surcharge`: the seconds that a mean of tokens above the threshold adds, at
# the sum of the models' rates. Micros are rounded half up, in numeric, which has no bound.
_SURCHARGE = """
    coalesce(sum(CASE
        WHEN c.duration_ms >= rule.grace_ms AND c.duration_ms > rule.free_ms
         AND c.llm_tokens > c.llm_requests * rule.threshold AND c.llm_requests * rule.threshold > 0
        THEN div(2 * 1000 * (div({seconds}::numeric * c.llm_tokens + c.llm_requests * rule.threshold - 1,
                                 c.llm_requests * rule.threshold) - {seconds}) * rule.model_rate + 60000, 120000)
    END), 0)"""
_SECONDS = "((greatest({}) + 999) / 1000)"
_BILLED_MS = """
    ((greatest(c.duration_ms - rule.free_ms, rule.least_{n}) + rule.increment_{n} - 1) / rule.increment_{n}
     * rule.increment_{n})"""
_TOKENS = """
    , coalesce(sum(div(2 * c.llm_tokens::numeric * rule.token_rate_{n} + 1000, 2000))
               FILTER (WHERE c.duration_ms >= rule.grace_ms), 0)"""


def _rated(organization_id: int, month: date, mixes: list[_Mix]) -> Counter[str]:
    """Return what the calls of the mixes cost as they are chosen, by component."""
    by_id = {mix.id: mix for mix in mixes}
    most_models = max(len(mix.models) for mix in mixes)
    most_by_token = max(len(mix.by_token) for mix in mixes)
    micros: Counter[str] = Counter()
    has_later = False
    for mix_id, _, is_later, calls, duration_ms, surcharge, *tokens in _groups(
        organization_id, month, mixes, most_models, most_by_token
    ):
        if is_later:
            has_later = True
            continue
        mix = by_id[mix_id]
        for line in rating.rate(CallFacts(duration_ms, mix.products), mix.snapshot).lines:
            micros[line.component] += line.micros * calls
        micros[Component.TOKEN_SURCHARGE] += int(surcharge)
        for rate, amount in zip(mix.by_token, tokens, strict=False):
            micros[rate.component] += int(amount)
    if has_later:
        micros.update(_of_later_revisions(organization_id, month, [mix.id for mix in mixes]))
    return micros


def _groups(
    organization_id: int, month: date, mixes: list[_Mix], most_models: int, most_by_token: int
) -> list[tuple[Any, ...]]:
    values: dict[str, Any] = {
        "organization": organization_id,
        "month": month,
        "mix": [mix.id for mix in mixes],
        "grace_ms": [mix.snapshot.grace_ms for mix in mixes],
        "free_ms": [mix.snapshot.free_ms for mix in mixes],
        "step_ms": [mix.step_ms for mix in mixes],
        "threshold": [mix.snapshot.token_threshold if mix.models else 0 for mix in mixes],
        "model_rate": [sum(rate.micros_per_minute for rate in mix.models) for mix in mixes],
    }
    names: list[str] = []
    for n in range(most_models):
        # The same model twice changes no maximum, so mixes with fewer of them repeat one.
        models = [mix.models[n % len(mix.models)] if mix.models else None for mix in mixes]
        values[f"least_{n}"] = [rate.minimum_ms if rate else 0 for rate in models]
        values[f"increment_{n}"] = [rate.increment_ms if rate else 1 for rate in models]
        names += [f"least_{n}", f"increment_{n}"]
    for n in range(most_by_token):
        values[f"token_rate_{n}"] = [mix.by_token[n].rate_micros if n < len(mix.by_token) else 0 for mix in mixes]
        names.append(f"token_rate_{n}")
    seconds = _SECONDS.format(", ".join(_BILLED_MS.format(n=n) for n in range(most_models)))
    query = _GROUPS.format(
        surcharge=_SURCHARGE.format(seconds=seconds) if most_models else "0",
        tokens="".join(_TOKENS.format(n=n) for n in range(most_by_token)),
        calls=_CALLS.format(
            columns="".join(f", %({name})s::bigint[]" for name in names), names="".join(f", {name}" for name in names)
        ),
    )
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())


_OF_LATER_REVISIONS = """
    SELECT rate.component, sum(line.micros)::bigint
    FROM usage_callrange r
    JOIN usage_call c ON c.organization_id = r.organization_id
     AND c.started_at BETWEEN r.starts_at AND r.ends_at AND c.id BETWEEN r.first_id AND r.last_id
    JOIN usage_productmix m ON m.id = c.mix_id
    CROSS JOIN LATERAL unnest(m.rate_ids, c.line_micros) AS line (rate_id, micros)
    JOIN usage_pricerate rate ON rate.id = line.rate_id
    WHERE r.organization_id = %s AND r.billed_month = %s AND r.first_sequence IS NOT NULL
      AND c.mix_id = ANY(%s) AND c.revision > 1 AND line.micros <> 0 GROUP BY 1"""


def _of_later_revisions(organization_id: int, month: date, mix_ids: list[int]) -> dict[str, int]:
    """Return what corrections of calls of these mixes were charged, by component."""
    with connection.cursor() as cursor:
        cursor.execute(_OF_LATER_REVISIONS, [organization_id, month, mix_ids])
        return dict(cursor.fetchall())
