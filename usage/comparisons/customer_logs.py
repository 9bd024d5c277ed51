"""Logs as customers keep them: CSV, JSON, JSON lines or XLSX, whatever the columns are called.

A text is kept as UTF-8 from the moment it arrives, so that nobody after that asks how it was written.
"""

import codecs
import csv
import io
import itertools
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import msgspec
import openpyxl

from usage import call_files
from usage.call_items import FileUnreadable

MOST_COLUMNS = 200
_CHUNK = 1024 * 1024
_HEAD = 64 * 1024
_MOST_UNPACKED = 4 * 1024**3
_MOST_CELL = 128 * 1024
_ROWS_OF_HEADER = 200
_DELIMITERS = ",;\t|"
_UTF_16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
NAMES = {
    "utf-8": "UTF-8",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "cp1252": "Latin-1 (Windows-1252)",
    "latin-1": "Latin-1",
}

_decoder = msgspec.json.Decoder(dict, float_hook=Decimal)


class LogUnreadable(ValueError):
    """The file cannot be read as a log of calls; the message says why, and what to do."""


class TooLarge(LogUnreadable):
    """The file is larger than is taken."""

    def __init__(self, most_bytes: int) -> None:
        most = f"{most_bytes // 1024**2:,} MB"
        super().__init__(f"A file holds at most {most}. Leave out columns that are not compared, or send fewer days.")


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file was found to be."""

    kind: str
    encoding: str
    size: int


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of a row by the places of the header; or why it is none."""

    line: int
    cells: list[Any]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Log:
    """An open log: its header, its rows, and how much of it was read, of a hundred."""

    header: list[str]
    rows: Iterator[Row]
    percent: Callable[[], int]


def keep(content: Iterator[bytes], path: Path, *, most_bytes: int) -> Kept:
    """Write an upload to `path`, text as UTF-8, and return what it is.

    Raises LogUnreadable and TooLarge, and then nothing of it stays.
    """
    raw = path.with_suffix(".raw")
    try:
        with raw.open("xb") as file:
            size = _copy(content, file, most_bytes)
        if not size:
            raise LogUnreadable("The file is empty.")
        with raw.open("rb") as file:
            head = file.read(_HEAD)
        if head.startswith(b"PK\x03\x04"):
            _check_workbook(raw)
            raw.replace(path)
            return Kept("xlsx", "", size)
        encoding = _encoding(raw, head)
        first = _transcode(raw, path, encoding).lstrip()
        return Kept("json" if first[:1] in {"[", "{"} else "csv", NAMES[encoding], size)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        raw.unlink(missing_ok=True)


@contextmanager
def open_log(path: Path, kind: str) -> Iterator[Log]:
    """Open a kept log. Raises LogUnreadable, also while its rows are read."""
    if kind == "xlsx":
        with _open_workbook(path) as log:
            yield log
        return
    size = max(1, path.stat().st_size)
    # What reads the file is closed before the file is.
    with path.open("rb") as file, ExitStack() as readers:
        header, rows = _json(file, readers) if kind == "json" else _csv(file, readers)
        yield Log(header, rows, lambda: min(99, file.tell() * 100 // size))


# ── What arrives ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _copy(content: Iterator[bytes], file: IO[bytes], most_bytes: int) -> int:
    size = 0
    for chunk in content:
        size += len(chunk)
        if size > most_bytes:
            raise TooLarge(most_bytes)
        file.write(chunk)
    return size


def _encoding(raw: Path, head: bytes) -> str:
    """Return how a text is written: as its first bytes say, else UTF-8 if all of it is, else Windows-1252."""
    for mark, name in _UTF_16.items():
        if head.startswith(mark):
            return name
    evens, odds = head[::2].count(0), head[1::2].count(0)
    if evens + odds > len(head) // 4:
        return "utf-16-le" if odds > evens else "utf-16-be"
    if evens + odds:
        raise LogUnreadable("The file is no text and no workbook. Save it as CSV, JSON or XLSX.")
    for name in ("utf-8", "cp1252"):
        if _is_written_in(raw, name):
            return name
    return "latin-1"


def _is_written_in(raw: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    with raw.open("rb") as file:
        try:
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _transcode(raw: Path, path: Path, encoding: str) -> str:
    """Write the text as UTF-8 without a mark; return its first characters."""
    first = ""
    try:
        with raw.open(encoding=encoding, newline="") as source, path.open("x", encoding="utf-8", newline="") as target:
            while text := source.read(_CHUNK):
                if not first:
                    text = text.removeprefix("\ufeff")
                    first = text[:1000]
                if "\0" in text:
                    raise LogUnreadable("The file is no text and no workbook. Save it as CSV, JSON or XLSX.")
                target.write(text)
    except UnicodeDecodeError as error:
        raise LogUnreadable(f"The file begins as {NAMES[encoding]} and breaks off. Save it as UTF-8.") from error
    if not first.strip():
        raise LogUnreadable("The file is empty.")
    return first


# ── Tables ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _csv(file: IO[bytes], readers: ExitStack) -> tuple[list[str], Iterator[Row]]:
    text = io.TextIOWrapper(file, "utf-8", newline="")
    first = text.readline(_MOST_CELL)
    text.seek(0)
    csv.field_size_limit(_MOST_CELL)
    reader = csv.reader(text, delimiter=max(_DELIMITERS, key=first.count))
    try:
        header = named(next(reader))
    except (csv.Error, StopIteration) as error:
        raise LogUnreadable("The first line cannot be read as the names of columns.") from error
    return header, readers.enter_context(closing(_csv_rows(reader, len(header), text)))


def _csv_rows(reader: Any, columns: int, text: io.TextIOWrapper) -> Generator[Row, None, None]:
    line = reader.line_num + 1
    try:
        for cells in reader:
            if any(cells):
                extra = len(cells) - columns
                fault = f"The row has {len(cells)} cells for {columns} columns." if extra > 0 else ""
                yield Row(line, cells[:columns] + [""] * -extra, fault)
            line = reader.line_num + 1
    except csv.Error as error:
        raise LogUnreadable(f"Line {line} is not readable CSV: {error}.") from None
    finally:
        text.detach()  # whoever opened the file closes it


def _json(file: IO[bytes], readers: ExitStack) -> tuple[list[str], Iterator[Row]]:
    items = readers.enter_context(closing(_objects(file)))
    first = list(itertools.islice(items, _ROWS_OF_HEADER))
    header = list(dict.fromkeys(name for _, fields, _ in first for name in fields))[:MOST_COLUMNS]
    if not header:
        raise LogUnreadable("The file holds no objects. A log in JSON is a list of objects, or an object a line.")
    rows = itertools.chain(first, items)
    return header, (Row(line, [fields.get(name) for name in header], fault) for line, fields, fault in rows)


def _objects(file: IO[bytes]) -> Generator[tuple[int, dict[str, Any], str], None, None]:
    try:
        for item in call_files.of_json(file):
            try:
                yield item.line, _flat(_decoder.decode(item.raw)), item.fault
            except (msgspec.MsgspecError, ValueError, RecursionError):
                yield item.line, {}, "It is no object of JSON."
    except FileUnreadable as error:
        raise LogUnreadable(f"Line {error.line}: {error.reason}") from None


def _flat(fields: dict[str, Any]) -> dict[str, Any]:
    """Return an object with the fields of objects within it as `outer.inner`."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": each for inner, each in value.items() if not isinstance(each, dict | list)}
        elif not isinstance(value, list):
            flat[name] = value
    return flat


def _check_workbook(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(each.file_size for each in archive.infolist())
            is_workbook = "xl/workbook.xml" in archive.namelist()
    except zipfile.BadZipFile as error:
        raise LogUnreadable("The workbook is damaged. Save it again as XLSX, or as CSV.") from error
    if not is_workbook:
        raise LogUnreadable("The file is an archive, not a workbook. Send the CSV, JSON or XLSX that is in it.")
    if unpacked > _MOST_UNPACKED:
        raise LogUnreadable("The workbook is too large. Save it as CSV, with the columns that are compared.")


@contextmanager
def _open_workbook(path: Path) -> Iterator[Log]:
    with ExitStack() as opened:
        file = opened.enter_context(path.open("rb"))
        try:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
        except Exception as error:  # whatever is wrong in the archive
            raise LogUnreadable("The workbook cannot be read. Save it again as XLSX, or as CSV.") from error
        opened.callback(book.close)
        sheet = book.worksheets[0] if book.worksheets else None
        if sheet is None:
            raise LogUnreadable("The workbook has no sheet.")
        sheet.reset_dimensions()
        lines = _sheet_rows(sheet)
        first = next(lines, None)
        if first is None:
            raise LogUnreadable("The first sheet is empty.")
        header = named(["" if cell is None else str(cell) for cell in first.cells])
        yield Log(header, (_fitted(row, len(header)) for row in lines), lambda: 0)


def _sheet_rows(sheet: Any) -> Iterator[Row]:
    try:
        for line, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
            if any(cell is not None for cell in cells):
                yield Row(line, list(cells))
    except Exception as error:  # the parser's own, and whatever a damaged archive leads to
        raise LogUnreadable("The sheet cannot be read to its end. Save it again as XLSX, or as CSV.") from error


def _fitted(row: Row, columns: int) -> Row:
    return Row(row.line, row.cells[:columns] + [None] * (columns - len(row.cells)))


def named(header: list[str]) -> list[str]:
    """Return names for all columns, each its own. Raises LogUnreadable for too many columns."""
    if len(header) > MOST_COLUMNS:
        raise LogUnreadable(f"The file has {len(header):,} columns; at most {MOST_COLUMNS} are read.")
    names: list[str] = []
    for place, given in enumerate(header, start=1):
        name = " ".join(given.split())[:100] or f"Column {place}"
        names.append(name if name not in names else f"{name} ({place})")
    return names
