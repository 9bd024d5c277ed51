"""Prices beside other prices, in words: what is proposed, and what a customer is told of it."""

from dataclasses import dataclass

from usage.models import Component
from usage.snapshots import Rate, Snapshot, Unit


@dataclass(frozen=True, slots=True)
class RateChange:
    """One product whose rate changes: micros for each unit, None where it has none before or after."""

    label: str
    component: str
    unit: str
    before_micros: int | None
    after_micros: int | None


def rate_changes(before: Snapshot | None, after: Snapshot) -> list[RateChange]:
    """Return the products whose rate or unit changes, comes or goes, in the order of components."""
    old = dict(before.rates) if before else {}
    changes = []
    for product in sorted({*old, *after.rates}):
        was, becomes = old.get(product), after.rates.get(product)
        if _rate(was) != _rate(becomes):
            changes.append(_change(was, becomes))
    order = {component.label: place for place, component in enumerate(Component)}
    return sorted(changes, key=lambda each: (order[each.component], each.label))


def term_changes(before: Snapshot | None, after: Snapshot) -> list[str]:
    """Return what else changes, in sentences: what is free, from which tokens on, and in which steps time is billed."""
    if before is None:
        return []
    texts = []
    if before.grace_ms != after.grace_ms:
        texts.append(f"A call under {_seconds(after.grace_ms)} costs nothing; until then {_seconds(before.grace_ms)}.")
    if before.free_ms != after.free_ms:
        texts.append(f"The first {_seconds(after.free_ms)} of a call are free; until then {_seconds(before.free_ms)}.")
    if before.token_threshold != after.token_threshold:
        texts.append(
            f"Language model time is scaled up above {after.token_threshold:,} tokens a request; "
            f"until then above {before.token_threshold:,}."
        )
    for product, rate in sorted(after.rates.items()):
        was = before.rates.get(product)
        if was is not None and rate.is_for_time and _steps(was) != _steps(rate):
            texts.append(
                f"{rate.label or product} is billed for at least {_seconds(rate.minimum_ms)}, in steps of "
                f"{_seconds(rate.increment_ms)}; until then {_seconds(was.minimum_ms)}, {_seconds(was.increment_ms)}."
            )
    return texts


def _change(was: Rate | None, becomes: Rate | None) -> RateChange:
    named = becomes or was
    assert named is not None  # one of them has the product
    unit = Unit(named.unit).label
    if was and becomes and was.unit != becomes.unit:
        unit = f"{Unit(becomes.unit).label}, until then {Unit(was.unit).label}"
    return RateChange(
        label=named.label or named.product,
        component=Component(named.component).label,
        unit=unit,
        before_micros=was.rate_micros if was else None,
        after_micros=becomes.rate_micros if becomes else None,
    )


def _rate(rate: Rate | None) -> tuple[str, int] | None:
    return (rate.unit, rate.rate_micros) if rate else None


def _steps(rate: Rate) -> tuple[int, int]:
    return rate.minimum_ms, rate.increment_ms


def _seconds(ms: int) -> str:
    seconds = f"{ms / 1000:g}"
    return f"{seconds} second{'' if seconds == '1' else 's'}"
