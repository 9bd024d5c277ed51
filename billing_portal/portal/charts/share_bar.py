"""Parts of a whole: how much of it each is, beside one another on one bar."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from billing_portal.portal import formats
from billing_portal.portal.charts.frame import css_class, percent
from usage.shares import spread


@dataclass(frozen=True)
class Share:
    key: str
    label: str
    css: str
    micros: int
    percent: str
    left: str
    width: str
    href: str


def shares(
    totals: Iterable[tuple[str, str, int]], *, href: Callable[[str], str] | None = None, digits: int = 1
) -> tuple[Share, ...]:
    """Return each (key, label, micros) as its part of the whole, largest first; the percentages add up to 100.

    Only what is above zero takes part. The odd tenths go to the largest remainders.
    """
    rows = sorted(((key, label, micros) for key, label, micros in totals if micros > 0), key=lambda row: -row[2])
    amounts = [micros for _, _, micros in rows]
    whole = sum(amounts)
    before = 0
    result = []
    for (key, label, micros), part in zip(rows, percentages(amounts, digits=digits), strict=True):
        result.append(
            Share(
                key=key,
                label=label,
                css=css_class(key),
                micros=micros,
                percent=part,
                left=percent(Fraction(before, whole)),
                width=percent(Fraction(micros, whole)),
                href=href(key) if href else "",
            )
        )
        before += micros
    return tuple(result)


def percentages(amounts: Sequence[int], *, digits: int = 1) -> list[str]:
    """Return amounts as percentages of their sum that add up to 100; what is not above zero has no part in it."""
    scale = 100 * 10**digits
    weights = [max(amount, 0) for amount in amounts]
    if not any(weights):
        return [formats.percent(0, 0)] * len(amounts)
    return [formats.percent(part, scale, digits=digits) for part in spread(scale, weights)]
