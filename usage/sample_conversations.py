"""Plausible conversations of the sample's customers that also write, the same for the same seed.

Each is one of a few courses, in shares that make every outcome and every reason appear: most are resolutions, a third
of them assumed; some customers come back for help, a few of them days later, also in the next month.
"""

import calendar
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from usage.samples import SampleOrganization

_AGENTS = ("Chat Concierge", "Inbox Assistant", "Order Helper")
_CHANNELS = ("chat", "chat", "email", "whatsapp")
_EVERY = 3  # so many customers have one that writes

_ANSWERED: tuple[str, dict[str, Any]] = ("ai_answered", {})
_GREETED: tuple[str, dict[str, Any]] = ("ai_answered", {"is_greeting": True})
_HELPED: tuple[str, dict[str, Any]] = ("customer_replied", {"reply_kind": "affirmative"})
_ASKED: tuple[str, dict[str, Any]] = ("customer_replied", {"reply_kind": "other"})
_NEEDS_HELP: tuple[str, dict[str, Any]] = ("customer_replied", {"reply_kind": "needs_help"})
_ESCALATED: tuple[str, dict[str, Any]] = ("escalated", {})
# Weight, and the events with the most minutes that pass before each.
_COURSES: tuple[tuple[int, tuple[tuple[int, tuple[str, dict[str, Any]]], ...]], ...] = (
    (28, ((0, _GREETED), (3, _ANSWERED), (12, _HELPED), (4, ("closed", {})))),
    (22, ((0, _ANSWERED),)),
    (10, ((0, _GREETED), (4, _ANSWERED), (9, _ASKED), (2, _ANSWERED))),
    (8, ((0, _ANSWERED), (600, ("customer_rated", {"rating": 5})))),
    (4, ((0, _ANSWERED), (20, _NEEDS_HELP), (6, _ESCALATED))),
    (4, ((0, _ANSWERED), (9, _ESCALATED))),
    (6, ((0, _GREETED),)),
    (5, ((0, _ANSWERED), (30, _HELPED), (7_000, _NEEDS_HELP))),
    (4, ((0, _ANSWERED), (5_000, _NEEDS_HELP), (10, _ANSWERED), (15, _HELPED))),
    (3, ((0, _ANSWERED), (240, ("customer_rated", {"rating": 1})))),
    (3, ((0, _ANSWERED), (5, ("procedure_handoff", {})))),
    (2, ((0, _ANSWERED), (8, ("disqualified", {})))),
    (1, ((0, _ANSWERED), (11, ("qualified", {})))),
)


def customers(every: Sequence[SampleOrganization]) -> list[SampleOrganization]:
    """Return those of the sample's customers whose agents also write."""
    return list(every[::_EVERY])


def events(
    *, months: Sequence[date], count: int, seed: int = 1, customers: Sequence[SampleOrganization]
) -> Iterator[dict[str, Any]]:
    """Yield the events of `count` conversations begun in `months` (first days), month by month, in order of time.

    What a conversation of a month still brings in the next stands among that month's events, also after the last one.
    """
    rng = random.Random(f"conversations {seed}")  # noqa: S311 - a sample, not a secret
    following: list[dict[str, Any]] = []
    for number, month in enumerate(months):
        begun = count // len(months) + (number < count % len(months))
        told = following + [
            event
            for place in range(begun)
            for event in _conversation(rng, f"{month:%Y%m}_{place:05}", month, customers)
        ]
        told.sort(key=lambda event: (event["occurred_at"], event["event_id"]))
        ends_at = (month + timedelta(days=calendar.monthrange(month.year, month.month)[1])).isoformat()
        following = [event for event in told if event["occurred_at"] >= ends_at]
        yield from told[: len(told) - len(following)]
    yield from following


def _conversation(
    rng: random.Random, name: str, month: date, customers: Sequence[SampleOrganization]
) -> Iterator[dict[str, Any]]:
    (customer,) = rng.choices(customers, [each.weight for each in customers])
    ((_, course),) = rng.choices(_COURSES, [weight for weight, _ in _COURSES])
    days = calendar.monthrange(month.year, month.month)[1]
    hour = min(23, max(0, round(rng.gauss(14, 4))))
    at = datetime(month.year, month.month, rng.randrange(days) + 1, hour, tzinfo=UTC)
    at += timedelta(seconds=rng.randrange(3600))
    agent, channel = rng.choice(_AGENTS), rng.choice(_CHANNELS)
    for place, (most, (kind, fields)) in enumerate(course):
        at += timedelta(seconds=rng.randint(most * 20, most * 60))
        yield {
            "organization": customer.reference,
            "conversation_id": f"conv_{name}",
            "event_id": f"evt_{name}_{place}",
            "type": kind,
            "occurred_at": at.isoformat(),
            "agent": agent,
            "channel": channel,
            **fields,
        }
