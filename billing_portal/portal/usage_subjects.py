"""What a page breaks usage down by: what calls are made of, who took them, or a key of their metadata."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

from accounts.models import Organization
from billing_portal.portal.date_ranges import Days
from usage import breakdowns, metadata_usage, rollups
from usage.breakdowns import Compared, Dimension, Part
from usage.metadata_usage import OTHERS
from usage.models import MetadataKey
from usage.rollups import Total

_KEY = "metadata:"
# So many values have a color of their own.
MOST_TOLD = 6
_UNCOUNTED = "\0uncounted"
# Dimension, its name, what is said of calls without a value, and the list's filter that a value is for.
_DIMENSIONS = (
    (Dimension.COMPONENT, "Component", "", ""),
    (Dimension.MODEL, "Language model", "No language model", "product"),
    (Dimension.VOICE, "Voice", "No voice engine", "product"),
    (Dimension.TELEPHONY, "Telephony", "No telephony", "product"),
    (Dimension.AGENT, "Agent", "No agent named", "agent"),
)
_PRODUCTS = (Dimension.MODEL, Dimension.VOICE, Dimension.TELEPHONY)


@dataclass(frozen=True)
class Subject:
    """One way to break down. `name` stands in addresses; `filters` are the list's for a value, empty for none.

    `compared` reads the days and those before, given the totals of each day; `labelled` names the values.
    """

    name: str
    label: str
    compared: Callable[[Days, Days | None, Mapping[date, Total]], Compared]
    labelled: Callable[[list[Part]], list[Part]]
    filters: Callable[[str], dict[str, str]]
    has_own: bool = False
    is_component: bool = False
    key: MetadataKey | None = None


def of(organization: Organization, name: str, keys: Sequence[MetadataKey]) -> Subject:
    """Return the subject that an address names, components for an unknown one; `keys` are the organization's."""
    for key in keys:
        if address_of(key) == name:
            return _of_key(key)
    named = Dimension(name) if name in set(Dimension) else Dimension.COMPONENT
    return _of_dimension(organization, named)


def choices(keys: Sequence[MetadataKey]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return (group, [(name, label)]) of all subjects."""
    by_metadata = [(address_of(key), key.key) for key in keys]
    return [
        ("Calls", [(dimension.value, label) for dimension, label, *_ in _DIMENSIONS]),
        *([("Metadata", by_metadata)] if keys else []),
    ]


def address_of(key: MetadataKey) -> str:
    """Return the name of a key's subject."""
    return _KEY + key.key


def _of_dimension(organization: Organization, dimension: Dimension) -> Subject:
    _, label, none, filtered = next(each for each in _DIMENSIONS if each[0] is dimension)

    def labelled(parts: list[Part]) -> list[Part]:
        return [
            part._replace(label=part.label or none) for part in breakdowns.labelled(organization.pk, dimension, parts)
        ]

    return Subject(
        name=dimension.value,
        label=label,
        compared=lambda days, before, _: breakdowns.compared(
            organization.pk,
            dimension,
            days=(days.starts_on, days.ends_on),
            before=(before.starts_on, before.ends_on) if before else None,
            told=None if dimension is Dimension.COMPONENT else MOST_TOLD,
        ),
        labelled=labelled,
        filters=lambda value: {filtered: value} if filtered and " + " not in value else {},
        has_own=dimension in _PRODUCTS,
        is_component=dimension is Dimension.COMPONENT,
    )


def _of_key(key: MetadataKey) -> Subject:
    return Subject(
        name=address_of(key),
        label=key.key,
        compared=partial(_compared_by_key, key),
        labelled=partial(_labelled_by_key, key),
        filters=lambda value: {"key": key.key, "value": value} if value and "\0" not in value else {},
        key=key,
    )


def _compared_by_key(key: MetadataKey, days: Days, before: Days | None, totals: Mapping[date, Total]) -> Compared:
    parts = _parts_of_key(key, days, totals)
    told = [part.value for part in parts if part.value is not None and "\0" not in part.value and part.calls][
        :MOST_TOLD
    ]
    amounts = metadata_usage.by_day(key, starts_on=days.starts_on, ends_on=days.ends_on, values=told)
    return Compared(
        parts=parts,
        before=_parts_of_key(key, before, totals) if before else [],
        told=told,
        by_day=_with_uncounted(amounts, {on: totals[on] for on in totals if days.starts_on <= on <= days.ends_on}),
    )


def _parts_of_key(key: MetadataKey, days: Days, totals: Mapping[date, Total]) -> list[Part]:
    """Return the parts of a key's values; what is not counted yet is one more, so that all add up to the total."""
    parts = metadata_usage.totals(key, starts_on=days.starts_on, ends_on=days.ends_on)
    total = rollups.sum_of(totals, days.starts_on, days.ends_on)
    rest = Part(
        _UNCOUNTED,
        "",
        total.calls - sum(part.calls for part in parts),
        total.duration_ms - sum(part.duration_ms for part in parts),
        total.micros - sum(part.micros for part in parts),
    )
    return [*parts, rest] if rest.calls or rest.micros else parts


def _labelled_by_key(key: MetadataKey, parts: list[Part]) -> list[Part]:
    words = {None: f"No {key.key}", OTHERS: "All other values", _UNCOUNTED: "Not counted", "": "(empty)"}
    return [part._replace(label=words.get(part.value, part.value or "")) for part in parts]


def _with_uncounted(
    amounts: dict[tuple[date, str | None], int], totals: Mapping[date, Total]
) -> dict[tuple[date, str | None], int]:
    """Return the amounts with what is not counted yet among the others of its day."""
    whole = dict(amounts)
    for on, total in totals.items():
        rest = total.micros - sum(each for (day, _), each in amounts.items() if day == on)
        whole[on, None] = whole.get((on, None), 0) + rest
    return whole
