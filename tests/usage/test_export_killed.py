"""A worker that is killed for real, with SIGKILL, in the middle of a chunk."""

import os
import signal
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now

from tests.billing import world
from tests.usage.conftest import call_object
from usage.calls import Filters
from usage.exports import jobs
from usage.exports.selection import Selection, Style
from usage.models import Export

pytestmark = pytest.mark.django_db(transaction=True)


class _Deadly(Selection):
    """Kills its own process when it has handed out a part of the third chunk."""

    def copy(self, style, **options):
        copied = super().copy(style, **options)
        if options["after"] is None or options["after"].id % 10_000 < 13:
            return copied
        copied.block = 1
        return _until_killed(copied)


def _until_killed(copied):
    for number, row in enumerate(copied):
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        yield row + b"x" * 100_000  # past every buffer, so that half a chunk stands in the file


def test_a_killed_worker_leaves_what_the_next_one_finishes(acme, alice, record, now, settings, tmp_path, monkeypatch):
    settings.EXPORTS_DIR = tmp_path
    monkeypatch.setattr(jobs, "CHUNK_ROWS", 7)
    world.load_prices()
    record(*[call_object(f"call_{number:02}", start_timestamp=1_760_000_000_000 + number) for number in range(30)])
    export = jobs.ask(organization=acme, by=alice, name="csv", filters=Filters(), calls=30, now=now)
    how = {"tell": lambda ready: None, "clock": lambda: now}
    connection.close()  # a child must not share it
    child = os.fork()
    if not child:
        try:
            jobs.write(export.pk, selection_of=_Deadly, **how)
        finally:
            os._exit(1)  # never reached
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    export.refresh_from_db()
    assert (export.state, export.rows_done) == ("writing", 14)
    assert jobs.path_of(export).stat().st_size > export.bytes_done
    assert jobs.abandoned(10) == []  # nobody knows yet
    Export.objects.filter(pk=export.pk).update(touched_at=Now() - jobs.LEASE - timedelta(seconds=1))
    assert jobs.abandoned(10) == [export.pk]
    jobs.write(export.pk, selection_of=Selection, **how)
    export.refresh_from_db()
    assert (export.state, export.rows_done) == ("ready", 30)
    assert jobs.path_of(export).read_bytes() == b"".join(Selection(acme, Filters()).copy(Style.CSV, header=True))
