"""Files that are written in the background: in chunks, gone on with after a kill, cancelled, expired."""

import tracemalloc
from datetime import timedelta

import openpyxl
import pytest
from django.db import connection
from django.db.models.functions import Now

from tests.conftest import only_long
from tests.usage.conftest import call_object
from usage.calls import Filters
from usage.exports import formats, jobs
from usage.exports.selection import Selection, Style
from usage.models import Export

pytestmark = pytest.mark.django_db
ALL = Filters()


@pytest.fixture(autouse=True)
def _small_chunks(settings, tmp_path, monkeypatch):
    settings.EXPORTS_DIR = tmp_path / "exports"
    monkeypatch.setattr(jobs, "CHUNK_ROWS", 7)
    monkeypatch.setattr(formats, "_PARQUET_BLOCK", 500_000)


@pytest.fixture
def thirty(priced, acme, record):
    record(*[call_object(f"call_{number:02}", start_timestamp=1_760_000_000_000 + number) for number in range(30)])
    return acme


@pytest.fixture
def ask(thirty, alice, now):
    def ask(name="csv", filters=ALL, calls=30):
        return jobs.ask(organization=thirty, by=alice, name=name, filters=filters, calls=calls, now=now)

    return ask


def write(export, now, *, seconds=60.0, selection_of=Selection):
    told = []
    more = jobs.write(export.pk, selection_of=selection_of, tell=told.append, clock=lambda: now, seconds=seconds)
    export.refresh_from_db()
    return more, told


def whole(export, style=Style.CSV):
    copied = Selection(export.organization, jobs.filters_of(export)).copy(style, header=style is Style.CSV)
    return b"".join(copied)


@pytest.mark.parametrize("name", ["csv", "jsonl", "focus", "parquet", "xlsx"])
def test_a_file_written_in_chunks_is_ready_and_tells_of_it_once(name, ask, now):
    export = ask(name)
    more, told = write(export, now)
    assert (more, len(told), export.state) == (False, 1, "ready")
    assert export.rows_done == (0 if name == "focus" else 30)  # nothing is settled
    assert export.bytes_done == jobs.path_of(export).stat().st_size
    assert export.expires_at == now + timedelta(days=7)
    if name == "csv":
        assert jobs.path_of(export).read_bytes() == whole(export)
    assert write(export, now) == (False, [])


def test_filters_are_stored_whole(ask, now):
    filters = Filters(
        starts_at=now - timedelta(days=400), ends_at=now, product="platform", status="ended", call_id_prefix="call_0"
    )
    export = ask(filters=filters)
    export.refresh_from_db()
    assert jobs.filters_of(export) == filters
    write(export, now)
    assert export.rows_done == 10


def test_work_stops_at_its_deadline_and_goes_on_where_it_stopped(ask, now):
    export, runs = ask(), 0
    more = True
    while more:
        more, _ = write(export, now, seconds=0)
        runs += 1
        assert jobs.abandoned(10) == ([export.pk] if more else [])
    assert runs == 5
    assert jobs.path_of(export).read_bytes() == whole(export)


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet", "xlsx"])
def test_a_worker_that_dies_within_a_chunk_leaves_a_file_that_the_next_one_finishes(name, ask, now):
    export = ask(name)

    class Dying(Selection):
        def end_of_chunk(self, after, *, rows):
            if after is not None and after.id % 10_000 >= 14:
                raise _Killed
            return super().end_of_chunk(after, rows=rows)

    with pytest.raises(_Killed):
        write(export, now, selection_of=Dying)
    export.refresh_from_db()
    assert (export.state, export.rows_done) == ("writing", 14)
    with jobs.path_of(export).open("ab") as file:
        file.write(b"half a li")  # what a killed worker had written of the next chunk
    _, told = write(export, now)
    assert (export.state, export.rows_done, len(told)) == ("ready", 30, 1)
    if name == "csv":
        assert jobs.path_of(export).read_bytes() == whole(export)
    elif name == "jsonl":
        assert jobs.path_of(export).read_bytes() == whole(export, Style.JSON)


def test_a_file_that_is_lost_is_begun_anew(ask, now):
    export = ask()
    write(export, now, seconds=0)
    jobs.path_of(export).unlink()
    write(export, now)
    assert jobs.path_of(export).read_bytes() == whole(export)


def test_two_workers_never_write_one_file(ask, now):
    export = ask()
    Export.objects.filter(pk=export.pk).update(
        state="writing", lease="00000000-0000-0000-0000-000000000001", touched_at=Now()
    )
    assert jobs.abandoned(10) == []
    assert write(export, now) == (False, [])
    Export.objects.filter(pk=export.pk).update(touched_at=Now() - jobs.LEASE - timedelta(seconds=1))
    assert jobs.abandoned(10) == [export.pk]
    assert write(export, now)[1] == [export]


def test_a_cancelled_export_stops_at_the_next_chunk_and_leaves_no_file(ask, now):
    export = ask()

    class Cancelling(Selection):
        def end_of_chunk(self, after, *, rows):
            if after is not None:
                assert jobs.cancel(export, now=now)
            return super().end_of_chunk(after, rows=rows)

    assert write(export, now, selection_of=Cancelling) == (False, [])
    assert export.state == "cancelled"
    jobs.expire(now=now)
    assert not jobs.path_of(export).exists()
    assert not jobs.cancel(export, now=now)


def test_an_export_that_never_succeeds_fails_and_is_not_tried_for_ever(ask, now):
    export = ask()

    def broken(*_):
        raise RuntimeError("no disk")

    for _ in range(jobs.MOST_ATTEMPTS):
        with pytest.raises(RuntimeError):
            write(export, now, selection_of=broken)
    write(export, now)
    assert export.state == "failed"
    assert jobs.abandoned(10) == []


def test_a_file_expires_and_is_removed_with_strays(ask, now, settings):
    export, other = ask(), ask("jsonl")
    write(export, now)
    write(other, now + timedelta(days=1))
    stray = settings.EXPORTS_DIR / "11111111-1111-1111-1111-111111111111.csv"
    stray.write_text("x")
    assert jobs.expire(now=now + timedelta(days=7)) == 1
    export.refresh_from_db()
    assert export.state == "expired"
    assert [path.name for path in settings.EXPORTS_DIR.iterdir()] == [jobs.path_of(other).name]


def test_an_organization_has_few_exports_under_way_and_a_sheet_so_many_rows(ask, other, charlie, now):
    with pytest.raises(jobs.TooManyCalls, match="XLSX holds 1,048,575 calls"):
        ask("xlsx", calls=1_048_576)
    for _ in range(jobs.MOST_UNDER_WAY):
        export = ask()
    with pytest.raises(jobs.TooManyExports, match="Wait for one"):
        ask()
    jobs.ask(organization=other, by=charlie, name="csv", filters=Filters(), calls=1, now=now)
    jobs.cancel(export, now=now)
    ask()


def test_a_workbook_goes_on_in_a_second_sheet(ask, tmp_path, monkeypatch, thirty):
    monkeypatch.setattr(formats, "SHEET_ROWS", 21)
    assert formats.write("xlsx", Selection(thirty, Filters()), tmp_path / "x.xlsx") == 30
    book = openpyxl.load_workbook(tmp_path / "x.xlsx")
    assert [sheet.max_row for sheet in book.worksheets] == [21, 11]
    assert book.worksheets[1]["A1"].value == "call_id"


_MANY = """
    INSERT INTO usage_call
    SELECT c.organization_id, c.id + 100 + n, c.started_at + n * interval '1 s', c.ended_at + n * interval '1 s',
           c.duration_ms, c.amount_micros, c.llm_tokens, c.llm_requests, c.mix_id, c.kind_id, c.agent_id, c.revision,
           'call_' || n, c.line_micros
    FROM (SELECT * FROM usage_call ORDER BY id LIMIT 1) AS c, generate_series(1, %s) AS n"""


@pytest.mark.parametrize("name", ["csv", "parquet", *only_long("jsonl", "xlsx")])
def test_memory_does_not_grow_with_the_rows(name, thirty, tmp_path):
    def peak(rows):
        with connection.cursor() as cursor:
            cursor.execute(_MANY.replace("'call_' ||", f"'call_{rows}_' ||").replace("+ 100 +", f"+ {rows} +"), [rows])
        tracemalloc.start()
        count = formats.write(name, Selection(thirty, Filters()), tmp_path / f"{rows}")
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return count, memory

    few, little = peak(2_000)
    many, much = peak(20_000)
    assert (few, many) == (2_030, 22_030)
    # A block of rows is held at a time, and no more.
    assert much < max(2 * little, 2_000_000), (little, much)
