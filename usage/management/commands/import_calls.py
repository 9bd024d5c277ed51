"""Record the calls of a file, as the API would."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from accounts import clock
from accounts.models import Organization
from usage import call_files, ingestion
from usage.call_files import FileUnreadable, Item

_STATUSES = (ingestion.RECORDED, ingestion.DUPLICATE, ingestion.CONFLICT, ingestion.REJECTED)


class Command(BaseCommand):
    help = (
        "Record the calls of a file: a JSON array, one object or JSON lines, also .gz or .xz. "
        "What is recorded already is a duplicate, so an import that was cut short is simply run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--organization", metavar="REF", help="whose calls they are, if the items do not say")

    def handle(self, *args: Any, file: Path, organization: str | None, **options: Any) -> None:
        self.counts: Counter[str] = Counter()
        self.first_wrong: dict[str, str] = {}
        scope = _scope(organization)
        broken: FileUnreadable | None = None
        try:
            self._import(file, scope)
        except FileUnreadable as error:
            broken = error
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
        self.stdout.write(", ".join(f"{self.counts[status]:,} {status}" for status in _STATUSES) + ".")
        for status, what in self.first_wrong.items():
            self.stdout.write(f"First {status}: {what}")
        if broken:
            raise CommandError(f"{file}: {broken} What stands before that is recorded.")
        if self.counts[ingestion.REJECTED] or self.counts[ingestion.CONFLICT]:
            raise CommandError("Not every call was recorded.")

    def _import(self, path: Path, scope: Organization | None) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[calls]:,} calls"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with call_files.open_file(path) as file, Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(path.name, total=file.size, calls=0)
            for batch in _batches(file.items):
                answers = ingestion.record([item.raw for item in batch], now=clock.now(), scope=scope)
                self._count(batch, answers)
                progress.update(task, completed=file.bytes_read(), calls=self.counts.total())

    def _count(self, batch: Sequence[Item], answers: Sequence[ingestion.Answer]) -> None:
        """Count the answers, and keep the first conflict and the first rejection."""
        self.counts.update(answer.status for answer in answers)
        for item, answer in zip(batch, answers, strict=True):
            if answer.status in {ingestion.REJECTED, ingestion.CONFLICT}:
                named = f" ({answer.call_id})" if answer.call_id else ""
                field = f"{answer.field}: " if answer.field else ""
                self.first_wrong.setdefault(answer.status, f"line {item.line}{named}: {field}{answer.reason}")


def _scope(reference: str | None) -> Organization | None:
    if reference is None:
        return None
    organization = Organization.objects.filter(reference=reference).first()
    if organization is None:
        raise CommandError(f"There is no organization {reference}.")
    return organization


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield lists of at most a thousand; what was read before the file broke off comes first, then the error."""
    iterator = iter(items)
    while True:
        batch: list[Item] = []
        try:
            batch.extend(itertools.islice(iterator, ingestion.MAX_ITEMS))
        except FileUnreadable:
            if batch:
                yield batch
            raise
        if not batch:
            return
        yield batch
