"""The sample company: the same for the same seed, as many calls as asked, in Retell's published shape."""

import itertools
import lzma
from collections import Counter, defaultdict
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import pytest

from usage import call_objects, samples

MONTHS = [date(2026, 8, 1), date(2026, 9, 1), date(2026, 10, 1)]
LATER = datetime(2026, 12, 1, tzinfo=UTC)
REAL_ARRIVALS = Path(__file__).resolve().parents[3] / "shared" / "data" / "bank_calls.csv.xz"
# Every field that Retell publishes for a phone call, and that a connected call has besides.
ALWAYS = {
    "call_type", "call_id", "agent_id", "agent_version", "agent_name", "call_status", "start_timestamp",
    "end_timestamp", "duration_ms", "direction", "from_number", "to_number", "telephony_identifier",
    "disconnection_reason", "metadata", "data_storage_setting", "opt_in_signed_url", "retell_llm_dynamic_variables",
}  # fmt: skip
CONNECTED = {"llm_token_usage", "call_cost", "call_analysis"}
TRANSFERRED = {"transfer_destination", "transfer_end_timestamp"}


def start_of(call: dict) -> datetime:
    return datetime.fromtimestamp(call["start_timestamp"] / 1000, UTC)


def test_the_same_seed_gives_the_same_calls() -> None:
    first, again = (list(samples.calls(months=MONTHS, count=500, seed=7)) for _ in range(2))
    assert first == again


def test_another_seed_gives_other_calls() -> None:
    ids = [{call["call_id"] for call in samples.calls(months=MONTHS, count=500, seed=seed)} for seed in (7, 8)]
    assert not ids[0] & ids[1]


@pytest.mark.parametrize("count", [0, 1, 999, 3000])
def test_as_many_calls_as_asked(count: int) -> None:
    calls = list(samples.calls(months=MONTHS, count=count))
    assert len({call["call_id"] for call in calls}) == len(calls) == count


def test_calls_start_in_the_months_asked_and_in_order() -> None:
    starts = [start_of(call) for call in samples.calls(months=MONTHS, count=3000)]
    assert starts == sorted(starts)
    assert {start.date().replace(day=1) for start in starts} == set(MONTHS)


def test_days_have_a_rhythm() -> None:
    starts = [start_of(call) for call in samples.calls(months=MONTHS, count=5000)]
    weekdays = Counter(start.weekday() for start in starts)
    hours = Counter(start.hour for start in starts)
    assert weekdays[2] > 2 * weekdays[6]
    assert hours[15] > 5 * hours[4]


def test_every_field_of_the_published_shape_is_there() -> None:
    for call in samples.calls(months=MONTHS, count=1000):
        connected = call["call_status"] == "ended"
        expected = ALWAYS | (CONNECTED if connected else set())
        expected |= TRANSFERRED if call["disconnection_reason"] == "call_transfer" else set()
        assert call.keys() == expected | {"organization"}


def test_calls_differ_as_real_ones_do() -> None:
    calls = list(samples.calls(months=MONTHS, count=3000))
    products = {cost["product"] for call in calls for cost in call.get("call_cost", {}).get("product_costs", ())}
    assert len({call["organization"] for call in calls}) == 30
    assert len(products & samples._MODELS.keys()) == 10
    assert {call["call_status"] for call in calls} == {"ended", "not_connected"}
    assert any(call["disconnection_reason"] == "call_transfer" for call in calls)
    assert {call["direction"] for call in calls} == {"inbound", "outbound"}


def test_every_sample_call_can_be_recorded() -> None:
    for call in samples.calls(months=MONTHS, count=1000):
        read = call_objects.decode(msgspec.json.encode(call), now=LATER)
        assert read.facts.duration_ms == call["duration_ms"]
        assert read.organization == call["organization"]


def test_the_largest_customer_comes_first() -> None:
    customers = samples.organizations(count=30)
    assert len({customer.reference for customer in customers}) == 30
    assert [customer.weight for customer in customers] == sorted((c.weight for c in customers), reverse=True)
    assert samples.organizations(count=30) == customers
    assert len({customer.reference for customer in samples.organizations(count=65)}) == 65


@pytest.mark.parametrize("name", ["arrivals.csv", "arrivals.csv.xz"])
def test_arrivals_of_one_month_move_to_another(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    with (lzma.open if file.suffix == ".xz" else open)(file, "wt") as out:
        out.write("interval_start,calls\n2003-03-31T23:55:00,9\n2003-04-01T07:00:00,3\n")
        out.write("2003-04-30T12:05:00,2\n2003-05-01T00:00:00,9\n")
    moved = list(samples.read_arrivals(file, source=date(2003, 4, 1), target=date(2026, 2, 1)))
    assert moved == [
        (datetime(2026, 2, 1, 7, tzinfo=UTC), 3),
        (datetime(2026, 2, 28, 12, 5, tzinfo=UTC), 2),
    ]
    calls = list(samples.calls_of_arrivals(moved))
    assert [start_of(call).day for call in calls] == [1, 1, 1, 28, 28]
    assert all(start_of(call) - moved[0][0] < samples.SLOT for call in calls[:3])


@pytest.mark.skipif(not REAL_ARRIVALS.exists(), reason="The real arrivals are not beside the repository")
def test_april_2003_has_628_414_real_calls() -> None:
    arrivals = list(samples.read_arrivals(REAL_ARRIVALS, source=date(2003, 4, 1), target=date(2026, 9, 1)))
    assert sum(count for _, count in arrivals) == 628_414
    assert {(at.year, at.month) for at, _ in arrivals} == {(2026, 9)}
    first = list(itertools.islice(samples.calls_of_arrivals(arrivals), 100))
    assert [start_of(call) for call in first] == sorted(start_of(call) for call in first)


def test_each_organization_s_calls_are_numbered_without_a_gap():
    numbers = defaultdict(list)
    for call in samples.numbered(samples.calls(months=MONTHS, count=2000)):
        numbers[call["organization"], call["source"]].append(call["source_sequence"])
    assert len({source for _, source in numbers}) == len(MONTHS)
    assert all(each == list(range(1, len(each) + 1)) for each in numbers.values())
