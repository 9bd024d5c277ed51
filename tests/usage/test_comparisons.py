"""A customer's own log held against ours: whatever way it is written, every call is in exactly one class."""

import csv
import io
import json
import tracemalloc
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.billing import world
from usage import amendments, calls, charges
from usage.comparisons import columns as meaning
from usage.comparisons import customer_logs, jobs, matching
from usage.comparisons.columns import Columns
from usage.models import Comparison

pytestmark = pytest.mark.django_db
DAY = date(2026, 10, 15)
COLUMNS = Columns("Call ID", duration="Seconds", price="Price", price_unit="major")
SECOND, CENT = 1_000, 10_000


@pytest.fixture(autouse=True)
def _folder(settings, tmp_path):
    settings.COMPARISONS_DIR = tmp_path / "comparisons"


@pytest.fixture
def used(acme, now):
    """Acme with eight calls on 15 October."""
    world.load_prices()
    world.record_calls(acme, 8, starts_at=now, now=now + timedelta(days=1))
    return acme


def ours(organization, count=8):
    """Return what our log says: id → (milliseconds, micros)."""
    found = {}
    for number in range(count):
        call = calls.find(organization.pk, f"call_1_{number}")
        found[call.call_id] = (call.duration_ms, charges.of(call).price_micros)
    return found


def as_rows(log):
    return [
        ("Call ID", "Seconds", "Price"),
        *((name, f"{ms / 1000:.3f}", f"{price / 10**6:.6f}") for name, (ms, price) in log),
    ]


def as_csv(rows, delimiter=","):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue()


def uploaded(organization, by, now, content, *, name="calls.csv", starts=DAY, ends=DAY):
    return jobs.upload(
        iter([content]), organization=organization, by=by, name=name, starts_date=starts, ends_date=ends, now=now
    )


def compared(organization, by, now, content, columns=COLUMNS, *, tolerance_ms=SECOND, tolerance_micros=CENT, **fields):
    comparison = uploaded(organization, by, now, content, **fields)
    jobs.choose(comparison, columns, tolerance_ms=tolerance_ms, tolerance_micros=tolerance_micros)
    return jobs.run(comparison.pk, clock=lambda: now)


def counts(comparison):
    return {name: total.calls for name, total in jobs.totals(comparison).items() if total.calls}


# ── How a log may be written ──────────────────────────────────────────────────────────────────────────────────────────


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]


@pytest.mark.parametrize(("encoding", "delimiter"), list(zip(ENCODINGS, ",;\t|,;", strict=True)))
def test_the_same_log_in_every_encoding_is_exact(used, alice, now, encoding, delimiter):
    rows = [("Größe", *row) if not place else ("Zoë’s", *row) for place, row in enumerate(as_rows(ours(used).items()))]
    done = compared(used, alice, now, as_csv(rows, delimiter).encode(encoding), COLUMNS)
    assert (done.state, counts(done)) == ("ready", {"exact": 8})
    assert done.header[0] == "Größe"
    assert done.sample[0][0] == "Zoë’s"


def test_json_json_lines_and_a_workbook_say_the_same(used, alice, now):
    header, *rows = as_rows(ours(used).items())
    objects = [dict(zip(header, (name, float(seconds), price), strict=True)) for name, seconds, price in rows]
    lines = "\n".join(json.dumps({"who": {"name": "x"}, **each}) for each in objects)
    book = openpyxl.Workbook()
    book.active.append(header)
    for name, seconds, price in rows:
        book.active.append([name, timedelta(seconds=float(seconds)), float(price)])
    saved = io.BytesIO()
    book.save(saved)
    for content in (json.dumps(objects).encode(), lines.encode(), lines.encode("utf-16"), saved.getvalue()):
        done = compared(used, alice, now, content)
        assert (done.state, counts(done)) == ("ready", {"exact": 8}), done.reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf  \n", "empty"),
        (b"call_id\n", "nothing below"),
        (b"%PDF-1.7\x00\x01binary", "no text and no workbook"),
        (b"PK\x03\x04 but no archive", "damaged"),
        (b"[1, 2, 3]", "no objects"),
        (b'[{"call_id": "a"}, {"call_id": ', "not readable JSON"),
        (b"\xff\xfea\x00b", "breaks off"),
        (",".join(f"c{place}" for place in range(300)).encode() + b"\n1\n", "300 columns"),
    ],
)
def test_what_is_no_log_is_refused_with_what_to_do_and_leaves_nothing(acme, alice, now, content, reason, settings):
    with pytest.raises(customer_logs.LogUnreadable, match=reason):
        uploaded(acme, alice, now, content)
    assert not Comparison.objects.exists()
    assert list(settings.COMPARISONS_DIR.iterdir()) == []


def test_a_file_that_is_too_large_is_refused_before_it_is_all_read(acme, alice, now, settings):
    settings.COMPARISONS_MOST_BYTES = 3 * 1024**2
    read = 0

    def content():
        nonlocal read
        for _ in range(500):
            read += 1
            yield bytes(1024**2)

    with pytest.raises(customer_logs.TooLarge, match="3 MB"):
        jobs.upload(content(), organization=acme, by=alice, name="x.csv", starts_date=DAY, ends_date=DAY, now=now)
    assert read == 4


def test_days_the_wrong_way_round_and_too_many_are_refused(acme, alice, now):
    for starts, ends in ((DAY, DAY - timedelta(days=1)), (DAY - timedelta(days=366), DAY)):
        with pytest.raises(jobs.NotComparable):
            uploaded(acme, alice, now, b"a\n1\n", starts=starts, ends=ends)


def test_wrong_columns_are_refused_and_can_be_chosen_again(used, alice, now):
    comparison = uploaded(used, alice, now, as_csv(as_rows(ours(used).items())).encode())
    with pytest.raises(jobs.NotComparable, match="no column Nonsense"):
        jobs.choose(comparison, Columns("Nonsense"), tolerance_ms=0, tolerance_micros=0)
    wrong = Columns("Seconds", duration="Call ID")
    jobs.choose(comparison, wrong, tolerance_ms=0, tolerance_micros=0)
    done = jobs.run(comparison.pk, clock=lambda: now)
    assert counts(done) == {"missing_here": 8, "missing_there": 8}
    assert done.faults[0][1].endswith("is no number.")


# ── What cells mean ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("cell", "unit", "decimal", "milliseconds"),
    [
        ("97", "s", ".", 97_000),
        ("97.0004", "s", ".", 97_000),
        ("97.0005", "s", ".", 97_001),
        ("1,234.5", "s", ".", 1_234_500),
        ("1.234,5", "s", ",", 1_234_500),
        ("1.5 min", "min", ".", 90_000),
        ("1:37", "clock", ".", 97_000),
        ("0:01:37.25", "clock", ".", 97_250),
        (timedelta(seconds=97), "s", ".", 97_000),
        (time(0, 1, 37), "min", ".", 97_000),
        (97, "ms", ".", 97),
        (Decimal("0.097"), "s", ".", 97),
        ("9.7E+04", "ms", ".", 97_000),
        ("", "s", ".", 0),
        (None, "s", ".", 0),
    ],
)
def test_durations_are_read_as_they_are_written(cell, unit, decimal, milliseconds):
    assert meaning.duration_ms(cell, Columns("id", duration_unit=unit, decimal=decimal)) == milliseconds


@pytest.mark.parametrize(
    "cell",
    [
        "soon",
        "1:2:3:4",
        "1-2",
        "--5",
        "(5)",
        "call_1_2",
        True,
        datetime(2026, 1, 1, tzinfo=UTC),
        "9" * 30,
        "NaN",
        float("inf"),
    ],
)
def test_what_is_no_number_is_said_so(cell):
    for unit in ("s", "clock"):
        with pytest.raises(meaning.Unreadable):
            meaning.duration_ms(cell, Columns("id", duration_unit=unit))


@pytest.mark.parametrize(
    ("cell", "unit", "decimal", "micros"),
    [
        ("$0.125", "major", ".", 125_000),
        ("0,125 €", "major", ",", 125_000),
        ("12.5", "hundredth", ".", 125_000),
        ("125000", "micros", ".", 125_000),
        ("-0.10", "major", ".", -100_000),
        ("-$0.10", "major", ".", -100_000),
        ("1 234,5 EUR", "major", ",", 1_234_500_000),
        (0.1, "major", ".", 100_000),
    ],
)
def test_prices_are_read_as_they_are_written(cell, unit, decimal, micros):
    assert meaning.micros(cell, Columns("id", price_unit=unit, decimal=decimal)) == micros


def test_columns_are_guessed_and_remembered(used, alice, now):
    first = uploaded(used, alice, now, b"Started;Call-ID;Talk Time (min);Cost\n1;a;1,5;0,25\n")
    guessed = Columns("Call-ID", "Talk Time (min)", "min", "Cost", "major", ",")
    assert jobs.suggested(first) == guessed
    jobs.choose(first, Columns("Started", price="Cost", decimal=","), tolerance_ms=0, tolerance_micros=0)
    again = uploaded(used, alice, now, b"Cost;Call-ID;Started\n1;a;1,5\n")
    assert jobs.suggested(again) == Columns("Started", price="Cost", decimal=",")
    assert jobs.suggested(uploaded(used, alice, now, b"id,cost\n1,2\n")) == Columns("id", price="cost")


# ── The five classes ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_class_has_its_count_and_its_money(used, alice, now):
    log = ours(used)
    names = [name for name, (ms, price) in log.items() if ms > 10_000 and price > 2 * CENT]
    slightly, dearer, shorter, gone = names[:4]
    theirs = {name: values for name, values in log.items() if name != gone}
    theirs[slightly] = (log[slightly][0] - SECOND, log[slightly][1] + CENT)
    theirs[dearer] = (log[dearer][0], log[dearer][1] - CENT - 1)
    theirs[shorter] = (log[shorter][0] - SECOND - 1, log[shorter][1])
    theirs["call_unknown"] = (60_000, 420_000)
    done = compared(used, alice, now, as_csv(as_rows(theirs.items())).encode())
    totals = jobs.totals(done)
    assert counts(done) == {"exact": 4, "within": 1, "mismatch": 2, "missing_here": 1, "missing_there": 1}
    assert totals["missing_here"].their_micros == 420_000
    assert totals["missing_there"].at_stake_micros == totals["missing_there"].our_micros == log[gone][1]
    assert totals["mismatch"].at_stake_micros == CENT + 1
    assert sum(each.our_micros for each in totals.values()) == sum(price for _, price in log.values())
    assert sum(each.their_micros for each in totals.values()) == sum(price for _, price in theirs.values())
    rows = jobs.first_calls(done, "mismatch", 5)
    assert [(row.call_id, row.at_stake_micros) for row in rows] == [(dearer, CENT + 1), (shorter, 0)]
    assert (rows[1].our_ms - rows[1].their_ms, rows[1].is_ours, rows[1].unreadable) == (SECOND + 1, True, "")


def test_without_prices_what_is_at_stake_follows_the_duration(used, alice, now):
    log = ours(used)
    name = max(log, key=lambda each: log[each][0])
    milliseconds, price = log[name]
    theirs = log | {name: (milliseconds - 100_000, 0)}
    rows = as_csv([row[:2] for row in as_rows(theirs.items())]).encode()
    done = compared(used, alice, now, rows, Columns("Call ID", duration="Seconds"))
    assert jobs.totals(done)["mismatch"].at_stake_micros == pytest.approx(price * 100_000 / milliseconds, abs=1)


def test_a_call_of_another_day_is_found_and_one_of_the_span_is_missed(used, alice, now):
    rows = as_csv(as_rows(list(ours(used).items())[:3])).encode()
    elsewhere = compared(used, alice, now, rows, starts=DAY - timedelta(days=2), ends=DAY - timedelta(days=1))
    assert counts(elsewhere) == {"exact": 3}
    assert counts(compared(used, alice, now, rows)) == {"exact": 3, "missing_there": 5}


def test_f48_a_corrected_call_is_compared_as_it_is_now(used, alice, now):
    wanted = amendments.Amendment(60_000, ("platform",))
    amendments.amend(
        used, "call_1_3", wanted, replaces=1, reason="Too long", author_id=alice.pk, reference="r", now=now
    )
    log = ours(used)
    assert log["call_1_3"][0] == 60_000
    rows = as_csv(as_rows(log.items())).encode()
    assert counts(compared(used, alice, now, rows)) == {"exact": 8}
    elsewhere = compared(used, alice, now, rows, starts=DAY - timedelta(days=1), ends=DAY - timedelta(days=1))
    assert counts(elsewhere) == {"exact": 8}


def test_i16_another_organizations_calls_are_not_ours(used, other, charlie, now):
    rows = as_csv(as_rows(ours(used).items())).encode()
    assert counts(compared(other, charlie, now, rows)) == {"missing_here": 8}


def test_repeated_and_unreadable_rows_are_counted_and_named(used, alice, now):
    (name, values), *rest = ours(used).items()
    rows = as_rows([(name, values), (name, (1, 1)), *rest])
    rows += [("", "5", "5"), (rest[0][0] + "_x", "soon", "1")]
    rows[3] = (rest[0][0], "soon", "1")
    done = compared(used, alice, now, as_csv(rows).encode())
    assert (done.repeated_rows, done.nameless_rows, done.rows_done) == (1, 1, 11)
    assert counts(done) == {"exact": 7, "mismatch": 1, "missing_here": 1}
    assert [line for line, _ in done.faults] == [4, 11, 12]
    assert jobs.first_calls(done, "mismatch", 1)[0].unreadable == "“soon” is no number."


def test_cells_that_look_like_formulas_are_guarded(used, alice, now):
    rows = as_csv([("id",), ("=1+1",), ("@x",), ("+3",)]).encode()
    done = compared(used, alice, now, rows, Columns("id"))
    assert {row.call_id for row in jobs.first_calls(done, "missing_here", 9)} == {"=1+1", "@x", "+3"}
    in_file = list(csv.DictReader(io.StringIO(jobs.path_of(done, "missing_here").read_text())))
    assert {row["call_id"] for row in in_file} == {"'=1+1", "'@x", "'+3"}


_SHIFTS = st.sampled_from([0, 1, SECOND, SECOND + 1, -SECOND, -SECOND - 1, CENT, CENT + 1])
_CHANGES = st.dictionaries(st.integers(0, 11), st.tuples(_SHIFTS, _SHIFTS), max_size=12)


@given(changes=_CHANGES, tolerance_ms=st.sampled_from([0, SECOND]), tolerance_micros=st.sampled_from([0, CENT]))
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_the_five_classes_partition_the_union(used, now, changes, tolerance_ms, tolerance_micros):
    log = ours(used)
    theirs = {}
    for number, (ms, price) in changes.items():
        known = log.get(f"call_1_{number}", (60_000, 100_000))
        theirs[f"call_1_{number}"] = (known[0] + ms, known[1] + price)
    matching.begin()
    matching.add([(line, name, *values, "") for line, (name, values) in enumerate(theirs.items(), 2)])
    starts_at = datetime(2026, 10, 15, tzinfo=UTC)
    totals, repeated = matching.compare(
        used.pk,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(days=1),
        tolerance_ms=tolerance_ms,
        tolerance_micros=tolerance_micros,
    )
    classes: dict[str, set[str]] = {name: set() for name in totals}
    for name in {*log, *theirs}:
        classes[_class_of(log.get(name), theirs.get(name), tolerance_ms, tolerance_micros)].add(name)
    found = {name: {row["call_id"] for row in _rows(name)} for name in totals}
    assert found == classes
    assert {name: total.calls for name, total in totals.items()} == {name: len(ids) for name, ids in classes.items()}
    assert sum(total.calls for total in totals.values()) == len({*log, *theirs})
    assert sum(total.our_micros for total in totals.values()) == sum(price for _, price in log.values())
    assert repeated == 0


def _rows(name):
    return list(csv.DictReader(io.StringIO(b"".join(matching.as_csv(name)).decode())))


def _class_of(our, their, tolerance_ms, tolerance_micros):
    if our is None or their is None:
        return "missing_here" if our is None else "missing_there"
    if our == their:
        return "exact"
    near = abs(our[0] - their[0]) <= tolerance_ms and abs(our[1] - their[1]) <= tolerance_micros
    return "within" if near else "mismatch"


# ── The job ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_worker_that_is_gone_is_followed_by_another(used, alice, now):
    comparison = uploaded(used, alice, now, as_csv(as_rows(ours(used).items())).encode())
    jobs.choose(comparison, COLUMNS, tolerance_ms=0, tolerance_micros=0)
    assert jobs.abandoned(9) == [comparison.pk]
    row = Comparison.objects.filter(pk=comparison.pk)
    row.update(lease=uuid.uuid4(), touched_at=datetime.now(UTC), state="comparing", rows_done=3, nameless_rows=3)
    assert jobs.abandoned(9) == []
    assert jobs.run(comparison.pk, clock=lambda: now) is None
    row.update(touched_at=datetime.now(UTC) - timedelta(hours=1))
    assert jobs.abandoned(9) == [comparison.pk]
    done = jobs.run(comparison.pk, clock=lambda: now)
    assert (done.state, done.rows_done, done.nameless_rows, counts(done)) == ("ready", 8, 0, {"exact": 8})
    assert jobs.run(comparison.pk, clock=lambda: now) is None


def test_too_many_rows_are_said_so_and_nothing_is_lost(used, alice, now, monkeypatch):
    monkeypatch.setattr(jobs, "MOST_ROWS", 7)
    done = compared(used, alice, now, as_csv(as_rows(ours(used).items())).encode())
    assert (done.state, done.reason) == ("failed", "The file has more than 7 rows. Send it in parts, by days.")
    monkeypatch.setattr(jobs, "MOST_ROWS", 8)
    jobs.choose(done, COLUMNS, tolerance_ms=0, tolerance_micros=0)
    assert counts(jobs.run(done.pk, clock=lambda: now)) == {"exact": 8}


def test_files_are_removed_after_their_time_and_the_totals_stay(used, alice, now, settings):
    done = compared(used, alice, now, as_csv(as_rows(ours(used).items())).encode())
    assert len(list(settings.COMPARISONS_DIR.iterdir())) == 6
    assert jobs.forget(now=now + jobs.KEPT - timedelta(seconds=1)) == 0
    assert [jobs.forget(now=now + jobs.KEPT), jobs.forget(now=now + jobs.KEPT)] == [1, 0]
    assert list(settings.COMPARISONS_DIR.iterdir()) == []
    done.refresh_from_db()
    assert (done.state, counts(done)) == ("expired", {"exact": 8})


def test_memory_does_not_grow_with_the_log(used, alice, now, monkeypatch):
    monkeypatch.setattr(jobs, "BATCH", 500)
    peaks = []
    for rows in (2_000, 10_000):
        content = b"call_id,seconds\n" + b"".join(b"call_%d,60\n" % number for number in range(rows))
        comparison = uploaded(used, alice, now, content)
        jobs.choose(comparison, Columns("call_id", "seconds"), tolerance_ms=0, tolerance_micros=0)
        tracemalloc.start()
        jobs.run(comparison.pk, clock=lambda: now)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 1_000_000
