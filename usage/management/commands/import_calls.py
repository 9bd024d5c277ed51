"""Record the calls of a file, as the API would, and go on where an import of it was cut short."""

import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from accounts import clock
from accounts.models import Organization
from usage import imports, ingestion
from usage.models import ImportJob

_LOOK_AGAIN_SECONDS = 2.0


class Command(BaseCommand):
    kind = ImportJob.Kind.CALLS
    noun, one = "calls", "call"
    help = (
        "Record the calls of a file: JSON (an array, one object or JSON lines), CSV or Parquet by the end of its name, "
        "also .gz or .xz. An import that was cut short goes on where it was; what is recorded already is a duplicate."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--organization", metavar="REF", help=f"whose {self.noun} they are, if the items do not say"
        )
        parser.add_argument("--rejects", type=Path, metavar="FILE", help="write here, as CSV, what was not recorded")

    def handle(self, *args: Any, file: Path, organization: str | None, rejects: Path | None, **options: Any) -> None:
        try:
            job = imports.begin(file, now=clock.now(), organization=_scope(organization), kind=self.kind)
        except imports.FormatUnknown as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
        if job.items_done:
            self.stdout.write(f"Going on after {job.items_done:,} {self.noun} that an earlier run has been through.")
        job = self._run(job)
        counts = (job.recorded, job.duplicates, job.conflicts, job.rejected)
        names = (ingestion.RECORDED, ingestion.DUPLICATE, ingestion.CONFLICT, ingestion.REJECTED)
        self.stdout.write(", ".join(f"{count:,} {name}" for count, name in zip(counts, names, strict=True)) + ".")
        self._show_refusals(job, rejects)
        if job.state != ImportJob.State.DONE:
            raise CommandError(f"{file}: {job.reason or job.get_state_display()}")
        if job.conflicts or job.rejected:
            raise CommandError(f"Not every {self.one} was recorded.")

    def _run(self, job: ImportJob) -> ImportJob:
        """Record the file to its end, and show how far it is. Whoever else holds it is waited for."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[items]:,} " + self.noun),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(job.name, total=job.size_bytes, completed=job.bytes_done, items=job.items_done)

            def watch(job: ImportJob) -> None:
                progress.update(task, completed=job.bytes_done, items=job.items_done)

            while job.is_under_way:
                if imports.run(job.pk, clock=clock.now, watch=watch) is None:
                    progress.update(task, description=f"{job.name}: waiting for another run that holds it")
                    time.sleep(_LOOK_AGAIN_SECONDS)
                job.refresh_from_db()
        return job

    def _show_refusals(self, job: ImportJob, rejects: Path | None) -> None:
        for status in (ingestion.CONFLICT, ingestion.REJECTED):
            if first := job.refusals.filter(status=status).order_by("position").first():
                named = f" ({first.call_id})" if first.call_id else ""
                field = f"{first.field}: " if first.field else ""
                self.stdout.write(f"First {status}: line {first.line}{named}: {field}{first.reason}")
        if rejects:
            with rejects.open("w", newline="") as file:
                file.writelines(imports.refusals_as_csv(job))


def _scope(reference: str | None) -> Organization | None:
    if reference is None:
        return None
    organization = Organization.objects.filter(reference=reference).first()
    if organization is None:
        raise CommandError(f"There is no organization {reference}.")
    return organization
