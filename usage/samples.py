"""A plausible company's call log, the same for the same seed: for the demo, the tests and the benchmarks.

Calls come in Retell's published call object. Arrivals follow a daily and weekly rhythm, or real counts from a file.
Durations are lognormal with a mean of some 200 s, as measured in bank call centers (Brown et al., JASA 100, 2005).
"""

import calendar
import csv
import lzma
import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

SLOT = timedelta(minutes=5)
_SLOTS_A_DAY = 288
_UNCONNECTED = 0.07
_TRANSFERRED = 0.06
_MEAN_SECONDS = 200
_SIGMA = 0.85

# Cents: a minute for all but the last two, which are a call's.
_VOICES = {
    "elevenlabs_tts": 7.0,
    "cartesia_tts": 7.0,
    "openai_tts": 8.0,
    "playht_tts": 8.0,
    "deepgram_tts": 6.0,
}
_MODELS = {
    "gemini_2_0_flash": 0.6,
    "gemini_2_0_flash_lite": 0.3,
    "gpt_4o": 5.0,
    "gpt_4o_mini": 0.6,
    "gpt_4_1": 4.5,
    "gpt_4_1_mini": 1.6,
    "gpt_4_1_nano": 0.4,
    "gpt_5": 4.0,
    "claude_3_7_sonnet": 6.0,
    "claude_3_5_haiku": 2.0,
}
_TELEPHONY = {"retell_twilio": 1.5, "custom_telephony": 0.0}
_ADD_ONS = {"background_voice_cancellation": 0.5, "knowledge_base": 0.5, "pii_removal": 1.0}
_PLATFORM = {"platform": 0.5}
_PER_CALL = {"post_call_analysis_gpt_4o": 1.7, "branded_call": 10.0}
_CENTS = {**_VOICES, **_MODELS, **_TELEPHONY, **_ADD_ONS, **_PLATFORM, **_PER_CALL}

_NAMES = (
    "Acme Dental", "Northwind Travel", "Blue Harbor Insurance", "Cedar Home Services", "Lumen Energy",
    "Pinecrest Realty", "Vantage Logistics", "Orchard Clinics", "Summit Auto Care", "Riverside Credit Union",
    "Beacon Legal", "Maple Street Hotels", "Granite Staffing", "Coastal Plumbing", "Aurora Telehealth",
    "Juniper Salons", "Ironwood Solar", "Willow Pharmacy", "Stonebridge Schools", "Falcon Courier",
    "Evergreen Lawn", "Harborview Fitness", "Silverline Optics", "Prairie Feed", "Keystone Mortgage",
    "Lakeside Vets", "Redwood Storage", "Cobalt Security", "Sunrise Catering", "Meridian Tax",
)  # fmt: skip
_ZONES = (
    "America/New_York",
    "America/Chicago",
    "America/Los_Angeles",
    "America/Denver",
    "Europe/Berlin",
    "Asia/Kolkata",
)
_ROLES = (
    "Receptionist",
    "Appointment Desk",
    "Billing Line",
    "After Hours",
    "Order Status",
    "Outbound Reminders",
)


@dataclass(frozen=True, slots=True)
class Agent:
    """A voice agent: what its calls use."""

    agent_id: str
    name: str
    voice: str
    model: str
    telephony: str
    add_ons: tuple[str, ...]
    per_call: tuple[str, ...]
    outbound: bool
    mean_tokens: int


@dataclass(frozen=True, slots=True)
class SampleOrganization:
    """One customer of the sample company; `weight` is its share of the calls (Zipf)."""

    reference: str
    name: str
    time_zone: str
    weight: float
    agents: tuple[Agent, ...] = field(default_factory=tuple)


def organizations(*, seed: int = 1, count: int = 30) -> list[SampleOrganization]:
    """Return the sample's customers, largest first."""
    rng = random.Random(f"organizations {seed}")  # noqa: S311 - a sample, not a secret
    return [_organization(rng, rank) for rank in range(count)]


def calls(
    *,
    months: Sequence[date],
    count: int = 200_000,
    seed: int = 1,
    customers: Sequence[SampleOrganization] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield `count` calls over `months` (first days), in the order of their start, in Retell's shape.

    Each carries `organization`, the customer's reference.
    """
    slots = [slot for month in months for slot in _rhythm(month)]
    thresholds = list(accumulate(weight for _, weight in slots))
    rng = random.Random(f"arrivals {seed}")  # noqa: S311
    drawn = Counter(rng.choices(range(len(slots)), cum_weights=thresholds, k=count))
    arrivals = ((at, drawn[position]) for position, (at, _) in enumerate(slots))
    return calls_of_arrivals(arrivals, seed=seed, customers=customers)


def calls_of_arrivals(
    arrivals: Iterable[tuple[datetime, int]],
    *,
    seed: int = 1,
    customers: Sequence[SampleOrganization] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield exactly as many calls as `arrivals` of (start of a five-minute slot, count) say."""
    customers = customers or organizations(seed=seed)
    rng = random.Random(f"calls {seed}")  # noqa: S311
    thresholds = list(accumulate(customer.weight for customer in customers))
    for slot_at, count in arrivals:
        slot_ms = int(slot_at.timestamp() * 1000)
        for start_ms in sorted(slot_ms + rng.randrange(300_000) for _ in range(count)):
            customer = rng.choices(customers, cum_weights=thresholds)[0]
            yield _call(rng, customer, start_ms)


def numbered(calls: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield calls with the numbers that a platform gives them, so that a missing one is seen: a source a month."""
    counted: Counter[tuple[str, str]] = Counter()
    for call in calls:
        source = f"voice-{datetime.fromtimestamp(call['start_timestamp'] / 1000, UTC):%Y-%m}"
        counted[call["organization"], source] += 1
        yield {**call, "source": source, "source_sequence": counted[call["organization"], source]}


def read_arrivals(path: Path, *, source: date, target: date) -> Iterator[tuple[datetime, int]]:
    """Yield the arrivals of month `source` from a file of (interval_start, calls), moved to month `target`.

    A day keeps its number; days that the target month lacks fall on its last one, so that no call is lost.
    """
    last_day = calendar.monthrange(target.year, target.month)[1]
    open_text = lzma.open if path.suffix == ".xz" else open
    with open_text(path, "rt") as file:
        for row in csv.DictReader(file):
            at = datetime.fromisoformat(row["interval_start"])
            if (at.year, at.month) == (source.year, source.month):
                day = min(at.day, last_day)
                yield at.replace(year=target.year, month=target.month, day=day, tzinfo=UTC), int(row["calls"])


def _organization(rng: random.Random, rank: int) -> SampleOrganization:
    name = _NAMES[rank % len(_NAMES)] + (f" {rank // len(_NAMES) + 1}" if rank >= len(_NAMES) else "")
    reference = name.lower().replace(" ", "-")
    agents = tuple(_agent(rng, reference, number) for number in range(rng.randint(2, 5)))
    return SampleOrganization(
        reference=reference,
        name=name,
        time_zone=_ZONES[rank % len(_ZONES)],
        weight=1 / (rank + 1) ** 0.9,
        agents=agents,
    )


def _agent(rng: random.Random, reference: str, number: int) -> Agent:
    outbound = rng.random() < 0.3
    return Agent(
        agent_id=f"agent_{_hex(rng, 24)}",
        name=_ROLES[number % len(_ROLES)],
        voice=rng.choice(list(_VOICES)),
        model=rng.choice(list(_MODELS)),
        telephony=rng.choices(list(_TELEPHONY), weights=(3, 1))[0],
        add_ons=tuple(name for name in _ADD_ONS if rng.random() < 0.35),
        per_call=tuple(name for name in _PER_CALL if rng.random() < 0.6 and (outbound or name != "branded_call")),
        outbound=outbound,
        mean_tokens=rng.choice((1800, 2600, 3400, 4200, 5600)),
    )


def _rhythm(month: date) -> Iterator[tuple[datetime, float]]:
    """Yield every slot of the month with its weight: business hours, a lunch dip, quiet weekends, slow growth."""
    days = calendar.monthrange(month.year, month.month)[1]
    for number in range(days):
        day = datetime(month.year, month.month, 1, tzinfo=UTC) + timedelta(days=number)
        weekday = 1.0 if day.weekday() < 5 else 0.32
        growth = 1 + 0.004 * (month.month * 30 + number)
        for slot in range(_SLOTS_A_DAY):
            hour = slot / 12
            morning, afternoon = (
                math.exp(-(((hour - 15.5) / 2.4) ** 2)),
                math.exp(-(((hour - 20.0) / 2.6) ** 2)),
            )
            yield day + slot * SLOT, weekday * growth * (0.04 + morning + 0.85 * afternoon)


def _call(rng: random.Random, customer: SampleOrganization, start_ms: int) -> dict[str, Any]:
    agent = rng.choice(customer.agents)
    connected = rng.random() >= _UNCONNECTED
    duration_ms = _duration_ms(rng) if connected else 0
    ours, theirs = f"+1555{rng.randrange(10**7):07d}", f"+1202{rng.randrange(10**7):07d}"
    call = {
        "organization": customer.reference,
        "call_type": "phone_call",
        "call_id": f"call_{_hex(rng, 26)}",
        "agent_id": agent.agent_id,
        "agent_version": 3,
        "agent_name": agent.name,
        "call_status": "ended" if connected else "not_connected",
        "start_timestamp": start_ms,
        "end_timestamp": start_ms + duration_ms,
        "duration_ms": duration_ms,
        "direction": "outbound" if agent.outbound else "inbound",
        "from_number": ours if agent.outbound else theirs,
        "to_number": theirs if agent.outbound else ours,
        "telephony_identifier": {"twilio_call_sid": f"CA{_hex(rng, 32)}"},
        "disconnection_reason": "dial_no_answer",
        "metadata": {
            "campaign": rng.choice(("spring", "renewals", "support")),
            "site": f"S{rng.randrange(1, 9)}",
        },
        "data_storage_setting": "everything",
        "opt_in_signed_url": False,
        "retell_llm_dynamic_variables": {},
    }
    if connected:
        call |= _conversation(rng, agent, start_ms, duration_ms)
    return call


def _conversation(rng: random.Random, agent: Agent, start_ms: int, duration_ms: int) -> dict[str, Any]:
    """Return the fields that only a connected call has."""
    seconds = -(-duration_ms // 1000)
    requests = max(1, min(40, seconds // 12))
    tokens = [max(200, round(rng.gauss(agent.mean_tokens, agent.mean_tokens / 5))) for _ in range(requests)]
    minute_products = (agent.voice, agent.model, agent.telephony, "platform", *agent.add_ons)
    costs = [_cost(product, seconds, 60) for product in minute_products]
    costs += [_cost(product, 1, 1) for product in agent.per_call]
    fields: dict[str, Any] = {
        "disconnection_reason": rng.choice(("user_hangup", "agent_hangup")),
        "llm_token_usage": {"values": tokens, "average": sum(tokens) / requests, "num_requests": requests},
        "call_cost": {
            "product_costs": costs,
            "total_duration_seconds": seconds,
            "total_duration_unit_price": round(sum(_CENTS[product] for product in minute_products) / 60, 7),
            "combined_cost": round(sum(cost["cost"] for cost in costs), 7),
        },
        "call_analysis": {
            "call_successful": rng.random() < 0.8,
            "in_voicemail": False,
            "user_sentiment": "Neutral",
        },
    }
    if rng.random() < _TRANSFERRED:
        fields |= {
            "disconnection_reason": "call_transfer",
            "transfer_destination": f"+1303{rng.randrange(10**7):07d}",
            "transfer_end_timestamp": start_ms + duration_ms + rng.randrange(20_000, 600_000),
        }
    return fields


def _cost(product: str, quantity: int, per: int) -> dict[str, Any]:
    cents = _CENTS[product]
    return {"product": product, "unit_price": round(cents / per, 7), "cost": round(cents * quantity / per, 7)}


def _duration_ms(rng: random.Random) -> int:
    mean = math.log(_MEAN_SECONDS) - _SIGMA**2 / 2
    return min(3_600_000, max(1_000, round(rng.lognormvariate(mean, _SIGMA) * 1000)))


def _hex(rng: random.Random, digits: int) -> str:
    return f"{rng.getrandbits(4 * digits):0{digits}x}"
