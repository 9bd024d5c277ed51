"""What the tests of usage live in: prices in force, call objects, a way to settle what was recorded, keys."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
import pytest
from django.test import Client

from accounts import api_keys
from accounts.models import ApiKey, Organization
from billing_portal.ledger import accounts, settlement
from tests.billing import world
from usage import ingestion

WRITE, READ = ApiKey.Scope.CALLS_WRITE, ApiKey.Scope.USAGE_READ


@pytest.fixture
def priced(db: None) -> None:
    """The sample company's list prices are in force."""
    world.load_prices()


def call_object(call_id: str = "call_1", **fields: Any) -> dict[str, Any]:
    """Return a call of 97 seconds that is sound unless `fields` say otherwise; a field of `...` is left out."""
    item = {
        "call_id": call_id,
        "organization": "acme",
        "call_type": "phone_call",
        "call_status": "ended",
        "start_timestamp": 1_760_000_000_000,
        "end_timestamp": 1_760_000_097_000,
        "duration_ms": 97_000,
        "direction": "inbound",
        "agent_id": "agent_1",
        "agent_name": "Receptionist",
        "products": ["platform", "elevenlabs_tts", "gpt_4o_mini"],
        **fields,
    }
    return {name: value for name, value in item.items() if value is not ...}


def raw(item: Any) -> bytes:
    return json.dumps(item).encode()


@pytest.fixture
def record(now: datetime) -> Callable[..., list[ingestion.Answer]]:
    """Return a recorder of call objects (or of bytes, as they stand)."""

    def record(*items: Any, **options: Any) -> list[ingestion.Answer]:
        texts = [item if isinstance(item, bytes) else raw(item) for item in items]
        return ingestion.record([msgspec.Raw(text) for text in texts], **{"now": now, **options})

    return record


@pytest.fixture
def settle(now: datetime) -> Callable[[Organization], int]:
    """Return what settles all that waits of an organization, opening its books first."""

    def settle(organization: Organization, **options: Any) -> int:
        accounts.open(organization=organization, now=now)
        return settlement.settle_all(organization.pk, **{"now": now, **options})

    return settle


@pytest.fixture
def key(now):
    """Return a maker of clients that carry a key."""

    def make(organization=None, *scopes, **fields):
        issued, secret = api_keys.issue(
            organization=organization, name="k", scopes=list(scopes or [READ]), now=now, **fields
        )
        client = Client(headers={"authorization": f"Bearer {secret}"})
        client.key = issued
        return client

    return make


@pytest.fixture
def vendor(key):
    return key(None, WRITE, READ)


def problem(response, status, slug):
    """Check that the response is this problem, and return it."""
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    document = response.json()
    assert (document["status"], document["type"]) == (status, f"urn:problem-type:{slug}")
    return document
