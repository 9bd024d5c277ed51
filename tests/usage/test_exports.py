"""Exports: every format is opened again by a real reader, and its sums are those of the rollups, to the micro."""

import csv
import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import openpyxl
import pyarrow.parquet
import pytest
from django.db import OperationalError, connection
from django.db.backends.signals import connection_created

from accounts import web_connections
from tests.usage.conftest import call_object
from usage import calls, rollups
from usage.calls import Filters
from usage.exports import formats
from usage.exports.selection import Copy, Place, Selection, Style
from usage.models import Component

pytestmark = pytest.mark.django_db
START = datetime(2026, 10, 1, 22, 30, tzinfo=UTC)
MONTH = date(2026, 10, 1)
INVOICES = {MONTH: "PV-0042"}
PRODUCTS = (
    ["platform", "elevenlabs_tts", "gpt_4o_mini"],
    ["platform", "gpt_4o", "knowledge_base", "telephony_us"],
    ["platform"],
)


@pytest.fixture
def exported(priced, acme, other, record, settle):
    """Fifty settled calls of Acme's, as many of another's, one without a price, one that waits."""
    items = [
        call_object(
            f"call_{number:03}",
            start_timestamp=(START + timedelta(minutes=7 * (number // 3))).isoformat(),
            end_timestamp=...,
            duration_ms=1_000 * (17 + 31 * number),
            agent_name=f"Agent “{number % 4}”, née",
            products=[each for each in PRODUCTS[number % 3] if each != "telephony_us"],
            llm_token_usage={"average": 3000 + 400 * number, "num_requests": 3},
            metadata={"customer": f"=cmd|{number}", "note": "two\nlines \\ \"quoted\", and 'more'"},
        )
        for number in range(50)
    ]
    record(*items, *[{**item, "organization": "other"} for item in items])
    settle(acme)
    record(call_object("unpriced", products=["gpt_9"], start_timestamp="2026-10-10T00:00:00Z", end_timestamp=...))
    record(call_object("waiting", start_timestamp="2026-10-11T00:00:00Z", end_timestamp=...))
    acme.time_zone = "Europe/Berlin"
    acme.save()
    return Selection(acme, Filters(), INVOICES)


def of_csv(selection, style=Style.CSV):
    text = b"".join(selection.copy(style, header=True)).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def of_jsonl(selection):
    return [json.loads(line) for line in b"".join(selection.copy(Style.JSON)).splitlines()]


def of_parquet(selection, tmp_path):
    assert formats.write("parquet", selection, tmp_path / "calls.parquet") == 52
    return pyarrow.parquet.read_table(tmp_path / "calls.parquet").to_pylist()


def of_xlsx(selection, tmp_path):
    assert formats.write("xlsx", selection, tmp_path / "calls.xlsx") == 52
    header, *rows = openpyxl.load_workbook(tmp_path / "calls.xlsx").active.values
    return [dict(zip(header, row, strict=True)) for row in rows]


def rows_of(name, selection, tmp_path):
    if name == "csv":
        return of_csv(selection)
    return of_jsonl(selection) if name == "jsonl" else globals()[f"of_{name}"](selection, tmp_path)


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet", "xlsx"])
def test_a_file_read_again_adds_up_to_the_rollups_to_the_micro(name, exported, acme, tmp_path):
    settled = [row for row in rows_of(name, exported, tmp_path) if row["sequence"] not in ("", None)]
    whole = rollups.total(acme.pk, starts_on=MONTH, ends_on=date(2026, 10, 31))
    assert len(settled) == whole.calls == 50
    assert sum(int(row["duration_ms"]) for row in settled) == whole.duration_ms
    assert sum(int(row["amount_micros"]) for row in settled) == whole.micros > 0
    assert sum(round(Decimal(str(row["amount"])) * 1_000_000) for row in settled) == whole.micros
    by_component = {
        component: sum(int(row[f"{component}_micros"]) for row in settled) for component in Component.values
    }
    expected = rollups.component_totals(acme.pk, MONTH)
    assert {name: micros for name, micros in by_component.items() if micros} == expected
    assert len(expected) >= 4


def test_a_focus_file_has_the_settled_calls_with_their_invoice(exported, acme):
    rows = of_csv(exported, Style.FOCUS)
    whole = rollups.total(acme.pk, starts_on=MONTH, ends_on=date(2026, 10, 31))
    for cost in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"):
        assert sum(Decimal(row[cost]) for row in rows) * 1_000_000 == whole.micros
    assert {row["InvoiceId"] for row in rows} == {"PV-0042"}
    assert {row["ChargeCategory"] for row in rows} == {"Usage"}
    assert {(row["BillingPeriodStart"], row["BillingPeriodEnd"]) for row in rows} == {
        ("2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z")
    }
    for mandatory in (
        *("BillingAccountId", "BillingAccountName", "BillingCurrency", "ChargeDescription", "ChargePeriodStart"),
        *("ChargePeriodEnd", "InvoiceIssuerName", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName"),
        *("ServiceCategory", "ServiceName", "SkuId"),
    ):
        assert all(row[mandatory] for row in rows), mandatory
    assert rows[0]["ChargePeriodStart"] == "2026-10-01T22:30:00Z"
    assert rows[0]["ChargePeriodEnd"] == "2026-10-01T22:30:18Z"


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet", "xlsx"])
def test_a_call_without_a_price_and_one_that_waits_say_so(name, exported, tmp_path):
    rows = {row["call_id"]: row for row in rows_of(name, exported, tmp_path)}
    empty = "" if name == "csv" else None
    unpriced, waiting = rows["unpriced"], rows["waiting"]
    assert [unpriced[key] for key in ("amount_micros", "llm_micros", "sequence", "invoice")] == [empty] * 4
    assert [waiting[key] for key in ("sequence", "billed_month", "invoice")] == [empty] * 3
    assert int(waiting["amount_micros"]) == 130_950


def test_times_are_given_in_utc_and_in_the_organizations_zone(exported):
    first = of_csv(exported)[0]
    assert first["started_at"] == "2026-10-01 22:30:00+00"
    assert (first["started_at_local"], first["time_zone"]) == ("2026-10-02 00:30:00", "Europe/Berlin")
    assert of_jsonl(exported)[0]["started_at"] == "2026-10-01T22:30:00+00:00"


def test_metadata_and_names_survive_the_way_through_every_format(exported, tmp_path):
    expected = {"customer": "=cmd|0", "note": "two\nlines \\ \"quoted\", and 'more'"}
    for name in ("csv", "parquet", "xlsx"):
        first = rows_of(name, exported, tmp_path)[0]
        assert json.loads(first["metadata"]) == expected
        assert first["agent_name"] == "Agent “0”, née"
    first = of_jsonl(exported)[0]
    assert first["metadata"] == expected
    assert first["products"] == sorted(PRODUCTS[0])


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1"])
def test_no_cell_of_a_csv_is_a_formula(start, priced, acme, record, settle):
    evil = {"agent_id": start, "agent_name": start, "direction": "inbound"}
    record(call_object(start.strip() or "x", products=["platform", start], **evil))
    selection = Selection(acme, Filters())
    [row] = of_csv(selection)
    assert row["agent_name"] == row["agent_id"] == f"'{start}"
    for name, cell in row.items():
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")), name
    assert of_jsonl(selection)[0]["agent_name"] == start


def test_a_workbook_holds_texts_and_no_formulas(priced, acme, record, tmp_path):
    record(call_object("=1+1", agent_name='=HYPERLINK("http://evil.example")', agent_id="http://evil.example"))
    formats.write("xlsx", Selection(acme, Filters()), tmp_path / "calls.xlsx")
    sheet = openpyxl.load_workbook(tmp_path / "calls.xlsx").active
    cells = {cell.value: cell for cell in sheet[2]}
    assert cells["=1+1"].data_type == "s"
    assert cells['=HYPERLINK("http://evil.example")'].data_type == "s"
    assert all(cell.hyperlink is None for cell in sheet[2])


@pytest.mark.parametrize(
    "filters",
    [
        Filters(product="gpt_4o"),
        Filters(call_id_prefix="call_01"),
        Filters(status="error"),
        Filters(starts_at=START + timedelta(hours=1), ends_at=START + timedelta(hours=2)),
    ],
)
def test_a_file_holds_the_calls_that_the_list_shows(filters, exported, acme):
    shown, _ = calls.page(acme.pk, filters, limit=1000)
    selection = Selection(acme, filters)
    assert [row["call_id"] for row in of_csv(selection)] == [call.call_id for call in reversed(shown)]
    assert selection.count(most=1000) == len(shown)
    assert selection.count(most=3) == min(3, len(shown))


def test_chunks_put_together_are_the_file(exported):
    whole = b"".join(exported.copy(Style.CSV, header=True))
    for size in (1, 7, 26, 52, 1000):
        parts, after = [], None
        while True:
            upto = exported.end_of_chunk(after, rows=size)
            parts += exported.copy(Style.CSV, after=after, upto=upto, header=after is None)
            if upto is None:
                break
            assert isinstance(upto, Place)
            after = upto
        assert b"".join(parts) == whole


def test_i16_a_file_holds_no_call_of_another_organization(exported, other):
    rows = of_csv(Selection(other, Filters()))
    assert {row["call_id"] for row in rows} == {f"call_{number:03}" for number in range(50)}
    assert {row["sequence"] for row in rows} == {""}  # Acme's are settled


@pytest.mark.django_db(transaction=True)
def test_a_stream_may_take_longer_than_a_web_process_grants_a_statement(settings):
    settings.WEB_STATEMENT_TIMEOUT_SECONDS = 1
    connection.close()
    web_connections.limit()
    try:
        with pytest.raises(OperationalError), connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(1.5)")
        assert b"".join(Copy("COPY (SELECT 'late' FROM pg_sleep(1.5)) TO STDOUT", {})) == b"late\n"
        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("1s",)  # for all that follows
    finally:
        connection_created.disconnect(dispatch_uid="accounts.web_connections")
        connection.close()
