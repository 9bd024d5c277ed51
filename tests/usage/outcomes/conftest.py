"""What the tests of outcomes live in: rules in force, events, and what became of conversations."""

import json
import tomllib
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.billing import world
from usage.models import Conversation
from usage.outcomes import recording, rules

DOCUMENT = Path("usage/price_books/outcomes.toml")
START = datetime.fromisoformat("2026-10-10T08:00:00+00:00")


@pytest.fixture
def ruled(db: None, now: datetime) -> None:
    """The sample company's prices and outcome rules are in force."""
    world.load_prices()
    rules.load(tomllib.loads(DOCUMENT.read_text()), now=now)


def event(kind: str, hours: float = 0, *, conversation: str = "c_1", **fields: Any) -> dict[str, Any]:
    """Return an event so many hours after the conversation began; a field of `...` is left out."""
    at = START + timedelta(hours=hours)
    item = {
        "organization": "acme",
        "conversation_id": conversation,
        "event_id": f"{conversation}:{kind}:{hours}:{sorted(fields.items())}",
        "type": kind,
        "occurred_at": at.isoformat(),
        **fields,
    }
    return {name: value for name, value in item.items() if value is not ...}


def raw(item: Any) -> bytes:
    return item if isinstance(item, bytes) else json.dumps(item).encode()


@pytest.fixture
def tell(now: datetime) -> Callable[..., list[recording.Answer]]:
    """Return a recorder of events."""

    def tell(*items: Any, **options: Any) -> list[recording.Answer]:
        return recording.record([raw(item) for item in items], **{"now": now, **options})

    return tell


def became(reference: str = "c_1") -> Conversation:
    return Conversation.objects.get(reference=reference)
