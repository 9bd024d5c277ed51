"""Files of calls: recorded once, in the background or by a command, told truly at every moment, also after a kill."""

import csv
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from accounts.models import ApiKey
from billing_portal.ledger import accounts
from tests.conftest import NOW
from tests.usage.conftest import READ, WRITE, call_object, problem
from usage import imports, ingestion, tasks
from usage.models import Call, ImportJob, ImportRefusal

pytestmark = pytest.mark.django_db
IMPORTS = "/api/v1/imports"
CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _place(settings, tmp_path, monkeypatch):
    settings.IMPORTS_DIR = tmp_path / "imports"
    monkeypatch.setattr("accounts.clock.now", lambda: NOW)


def lines(*calls):
    return b"".join(json.dumps(call).encode() + b"\n" for call in calls)


def upload(content=None, name="calls.jsonl", **options):
    content = lines(call_object("a"), call_object("b")) if content is None else content
    return imports.upload(iter([content]), name=name, now=NOW, **options)


def run(job, **options):
    return imports.run(job.pk, **{"clock": lambda: NOW, **options})


def counts(job):
    job.refresh_from_db()
    return job.items_done, job.recorded, job.duplicates, job.conflicts, job.rejected


def stored(settings):
    return sorted(path.name for path in Path(settings.IMPORTS_DIR).glob("*"))


# ── Recording ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_recorded_and_what_was_not_is_kept_with_the_reason(priced, acme, settings):
    content = lines(call_object("a"), call_object("a"), call_object("a", duration_ms=1)) + b"{nope\n\n"
    job = upload(content + lines(call_object("b", organization="nobody")))
    assert stored(settings) == [f"{job.public_id}.jsonl"]
    assert run(job).state == "done"
    assert counts(job) == (5, 1, 1, 1, 2)
    kept = ImportRefusal.objects.values_list("position", "line", "call_id", "status", "field")
    assert list(kept) == [
        (2, 3, "a", "conflict", "call_id"),
        (3, 4, "", "rejected", ""),
        (4, 6, "b", "rejected", "organization"),
    ]
    assert (stored(settings), job.percent_done, job.finished_at) == ([], 100, NOW)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("calls.json", json.dumps([call_object("a"), call_object("b")]).encode()),
        ("calls.JSONL.GZ", gzip.compress(lines(call_object("a"), call_object("b")), mtime=0)),
        ("a.b.csv", b"call_id,call_type,call_status,start_timestamp,duration_ms\na,x,ended,1760000000000,5\nb,,,,,,\n"),
    ],
)  # fmt: skip
def test_an_upload_is_read_as_its_name_says(priced, acme, name, content):
    job = upload(content, name, organization=acme)
    run(job)
    assert counts(job)[0] == 2
    assert "a" in Call.objects.values_list("call_id", flat=True)


def test_the_organization_of_an_import_is_that_of_items_that_name_none(priced, acme, other):
    job = upload(lines(call_object("a", organization=...), call_object("b", organization="other")), organization=acme)
    run(job)
    assert counts(job) == (2, 1, 0, 0, 1)
    assert Call.objects.get().organization == acme


def test_a_file_that_breaks_off_keeps_what_stands_before_and_says_where(priced, acme, settings):
    job = upload(b"[" + json.dumps(call_object("a")).encode() + b",\n{,", "calls.json")
    assert run(job).state == "failed"
    assert counts(job)[:2] == (1, 1)
    assert job.reason.startswith("Line 2: The item is not readable JSON")
    assert stored(settings) == []


def test_a_file_that_is_gone_fails_without_naming_its_place(priced, acme, settings):
    job = upload()
    imports.path_of(job).unlink()
    run(job)
    job.refresh_from_db()
    assert (job.state, job.reason) == ("failed", "The file cannot be read: No such file or directory.")


def test_i08_however_often_it_is_interrupted_every_item_counts_once(priced, acme, monkeypatch):
    monkeypatch.setattr(imports, "BATCH", 3)
    calls = [call_object(f"call_{number}", duration_ms=-1 if number % 7 == 0 else 1000) for number in range(20)]
    job, turns = upload(lines(*calls)), 0
    record = ingestion.record

    def sometimes(items, **options):
        answers = record(items, **options)
        if turns % 2:
            raise RuntimeError("after recording, before the commit")
        return answers

    monkeypatch.setattr(ingestion, "record", sometimes)
    while job.is_under_way:
        turns += 1
        try:
            run(job, seconds=0)
        except RuntimeError:
            assert turns % 2
        ImportJob.objects.update(attempts=0)
        job.refresh_from_db()
        assert Call.objects.count() == job.recorded
        assert ImportRefusal.objects.count() == job.rejected
        assert turns < 60
    assert counts(job) == (20, 17, 0, 0, 3)


def test_an_import_that_always_fails_is_given_up(priced, acme, monkeypatch):
    job = upload()
    monkeypatch.setattr(ingestion, "record", lambda *_, **__: 1 / 0)
    for _ in range(imports.MOST_ATTEMPTS):
        with pytest.raises(ZeroDivisionError):
            run(job)
    assert run(job) is None
    job.refresh_from_db()
    assert (job.state, job.recorded) == ("failed", 0)
    assert "5 times" in job.reason


def test_one_records_at_a_time_and_a_dead_one_is_taken_over(priced, acme, settings):
    job = upload()

    def meanwhile(_):
        assert run(job) is None

    assert imports.abandoned(10) == [job.pk]
    job = run(job, watch=meanwhile)
    assert counts(job)[:2] == (2, 2)
    job = upload(lines(call_object("c")))
    ImportJob.objects.filter(pk=job.pk).update(lease=job.public_id, touched_at=NOW, state="recording")
    ImportJob.objects.filter(pk=job.pk).update(touched_at="2100-01-01T00:00:00Z")
    assert (imports.abandoned(10), run(job)) == ([], None)
    ImportJob.objects.filter(pk=job.pk).update(touched_at="2020-01-01T00:00:00Z")
    assert imports.abandoned(10) == [job.pk]
    assert run(job).state == "done"


def test_a_cancelled_import_stops_and_what_is_recorded_stays(priced, acme, monkeypatch, settings):
    monkeypatch.setattr(imports, "BATCH", 1)
    job = upload(lines(*[call_object(str(number)) for number in range(5)]))

    def cancel(seen):
        if seen.items_done == 2:
            assert imports.cancel(job, now=NOW)

    assert run(job, watch=cancel) is None
    assert (counts(job)[0], job.state, Call.objects.count(), stored(settings)) == (2, "cancelled", 2, [])
    assert not imports.cancel(job, now=NOW)


def test_while_settlement_is_behind_an_import_waits(priced, acme, record, settings):
    record(*[call_object(f"call_{number}") for number in range(3)])
    settings.API_MOST_WAITING_CALLS = 2
    job = run(upload())
    assert (counts(job)[0], job.is_under_way, job.lease) == (0, True, None)
    settings.API_MOST_WAITING_CALLS = 1000
    assert run(job).state == "done"


def test_a_file_that_is_wrong_as_a_whole_keeps_no_more_refusals_than_it_may(priced, acme, monkeypatch):
    monkeypatch.setattr(imports, "BATCH", 2)
    monkeypatch.setattr(imports, "MOST_REFUSALS", 4)
    job = upload(b"{}\n" * 20)
    run(job)
    assert counts(job) == (20, 0, 0, 0, 20)
    assert 4 <= ImportRefusal.objects.count() <= 6


def test_imports_and_files_are_forgotten_in_time(priced, acme, settings):
    old, new = upload(), upload(lines(call_object("c")))
    run(old), run(new)
    ImportJob.objects.filter(pk=old.pk).update(finished_at=NOW - timedelta(days=91))
    stray, young = (settings.IMPORTS_DIR / f"{uuid.uuid4()}.csv" for _ in range(2))
    stray.touch(), young.touch()
    os.utime(stray, (0, 0))
    waiting = upload(lines(call_object("d")))
    os.utime(imports.path_of(waiting), (0, 0))
    (settings.IMPORTS_DIR / "not-an-id-of.ours.txt").touch()
    tasks.forget_imports()
    assert set(ImportJob.objects.all()) == {new, waiting}
    assert set(stored(settings)) == {young.name, imports.path_of(waiting).name, "not-an-id-of.ours.txt"}


def test_refusals_are_a_table_that_no_spreadsheet_computes(priced, acme):
    job = upload(lines(call_object("=1+1", duration_ms=-1), call_object("ok")))
    run(job)
    [row] = csv.DictReader(io.StringIO("".join(imports.refusals_as_csv(job))))
    assert (row["line"], row["call_id"], row["status"], row["field"]) == ("1", "'=1+1", "rejected", "duration_ms")


# ── Over the API ──────────────────────────────────────────────────────────────────────────────────────────────────────


def send(client, content, content_type="application/x-ndjson", query="", **headers):
    return client.post(f"{IMPORTS}{query}", content, content_type=content_type, headers=headers)


def test_a_file_is_sent_asked_for_and_its_refusals_are_fetched(priced, acme, vendor):
    response = send(vendor, lines(call_object("a"), call_object("b", duration_ms=-1)), query="?organization=acme")
    report = response.json()
    assert (response.status_code, response.headers["Location"], report["state"]) == (202, report["address"], "waiting")
    assert (report["organization"], report["percent_done"], report["refusals"]) == ("acme", 0, None)
    tasks.continue_imports()
    report = vendor.get(report["address"]).json()
    assert (report["state"], report["items"], report["recorded"], report["rejected"]) == ("done", 2, 1, 1)
    assert report["percent_done"] == 100
    answer = vendor.get(report["refusals"])
    assert "duration_ms" in b"".join(answer.streaming_content).decode()
    assert 'filename="calls.jsonl.refused.csv"' in answer.headers["Content-Disposition"]


def test_a_form_with_a_file_does_as_well(priced, acme, vendor):
    file = SimpleUploadedFile("march.csv", b"call_id\nx\n", "text/csv")
    report = vendor.post(IMPORTS, {"file": file}).json()
    tasks.continue_imports()
    report = vendor.get(report["address"]).json()
    assert (report["name"], report["items"], report["rejected"]) == ("march.csv", 1, 1)


def test_a_packed_body_is_kept_packed(priced, acme, vendor, settings):
    body = gzip.compress(lines(call_object("a")), mtime=0)
    report = send(vendor, body, **{"Content-Encoding": "gzip"}).json()
    assert report["name"] == "calls.jsonl.gz"
    tasks.continue_imports()
    assert vendor.get(report["address"]).json()["recorded"] == 1


@pytest.mark.parametrize(
    ("content", "content_type", "query", "status", "slug"),
    [
        (b"x", "text/plain", "", 415, "unsupported-media-type"),
        (b"x", "application/octet-stream", "?name=calls.zip", 400, "invalid"),
        (b"x", "application/octet-stream", "?name=calls.parquet.gz", 400, "invalid"),
        (b"x", "text/csv", "?name=../calls.csv", 400, "invalid"),
        (b"x", "text/csv", "?colour=red", 400, "invalid"),
        (b"x", "text/csv", "?organization=nobody", 404, "not-found"),
        (b"x", "multipart/form-data", "", 400, "unreadable-body"),
        (b"x", "multipart/form-data; boundary=b", "", 400, "unreadable-body"),
        (b"0" * 2001, "text/csv", "", 413, "body-too-large"),
    ],
)
def test_what_cannot_be_a_file_of_calls_is_refused_and_leaves_nothing(
    acme, vendor, settings, content, content_type, query, status, slug
):
    settings.IMPORTS_MOST_BYTES = 2000
    problem(send(vendor, content, content_type, query), status, slug)
    assert (ImportJob.objects.count(), stored(settings)) == (0, [])


def test_a_body_that_ends_early_is_refused_and_leaves_nothing(acme, vendor, settings):
    broken = {"wsgi.input": io.BytesIO(b"half"), "CONTENT_TYPE": "text/csv"}
    problem(vendor.generic("POST", IMPORTS, CONTENT_LENGTH="100", **broken), 400, "unreadable-body")
    problem(vendor.generic("POST", IMPORTS, CONTENT_TYPE="text/csv"), 400, "unreadable-body")
    assert (ImportJob.objects.count(), stored(settings)) == (0, [])


def test_only_keys_that_may_record_may_import_and_look(priced, acme, key, vendor):
    address = send(vendor, b"{}\n").json()["address"]
    reader = key(acme, READ)
    for response in (send(reader, b"{}\n"), reader.get(address), reader.get(f"{address}/refusals")):
        problem(response, 403, "missing-scope")
    problem(Client().get(address), 401, "missing-api-key")
    problem(vendor.get(f"{IMPORTS}/00000000-0000-0000-0000-000000000000"), 404, "not-found")


def test_an_import_is_noted_as_of_its_key(priced, acme, vendor):
    send(vendor, lines(call_object("a")))
    assert ImportJob.objects.get().api_key == ApiKey.objects.get(scopes__contains=[WRITE])


# ── By command, killed ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.django_db(transaction=True)
def test_f13_a_killed_import_goes_on_where_it_was_and_counts_every_call_once(priced, acme, tmp_path, capsys):
    accounts.open(organization=acme, now=NOW)
    file = tmp_path / "calls.jsonl"
    calls = (call_object(f"call_{n}", duration_ms=-1 if n % 1000 == 7 else 1000) for n in range(40_000))
    file.write_bytes(lines(*calls))
    database = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    environment = {
        **os.environ,
        "DATABASE_URL": database.geturl(),
        "DJANGO_SETTINGS_MODULE": "billing_portal.settings",
    }
    command = [sys.executable, "manage.py", "import_calls", str(file)]
    process = subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    give_up_at = time.monotonic() + 120
    while not ImportJob.objects.filter(items_done__gte=2000).exists():
        assert time.monotonic() < give_up_at
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    job = ImportJob.objects.get()
    assert 2000 <= job.items_done < 40_000
    assert Call.objects.count() == job.recorded
    ImportJob.objects.update(touched_at="2020-01-01T00:00:00Z")  # what a minute's patience would do
    with pytest.raises(CommandError, match="Not every call"):
        call_command("import_calls", str(file), "--rejects", str(tmp_path / "rejects.csv"))
    assert f"Going on after {job.items_done:,} calls" in capsys.readouterr().out
    assert ImportJob.objects.count() == 1
    assert counts(job) == (40_000, 39_960, 0, 0, 40)
    assert Call.objects.count() == 39_960
    assert len((tmp_path / "rejects.csv").read_text().splitlines()) == 41
