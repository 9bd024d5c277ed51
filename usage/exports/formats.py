"""The formats of an export, and how a file of each grows by chunks.

A text file can be cut back to where a chunk ended, so work that was interrupted goes on there. The others are only
whole: they are begun anew.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import pyarrow
import pyarrow.csv
import pyarrow.parquet
import xlsxwriter

from usage.exports.columns import Column, Kind
from usage.exports.selection import Place, Selection, Style

SHEET_ROWS = 1_048_576
_EXACT = 10**15
_PARQUET_BLOCK = 8 * 1024 * 1024


class Writer(Protocol):
    """A file under way. `add` writes the calls after one place, up to another, and returns how many rows it wrote."""

    def add(self, selection: Selection, after: Place | None, upto: Place | None) -> int: ...

    def position(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Format:
    """One format: how it is called, and what is roughly needed for a call."""

    # Sizes are estimates, for people.

    label: str
    note: str
    extension: str
    content_type: str
    style: Style
    bytes_a_call: int
    at_once: int  # up to so many calls, the file is answered at once
    write: Callable[[Path, int], Any]
    resumes: bool = False
    most: int | None = None
    bytes_anyway: int = 0

    def blocks(self, selection: Selection) -> Iterator[bytes]:
        """Yield the whole file as it is read from the database; for formats that are text."""
        return iter(selection.copy(self.style, header=self.style is not Style.JSON))


class _TextFile:
    """CSV or a JSON object a line, cut back to `at` bytes."""

    def __init__(self, path: Path, at: int, style: Style) -> None:
        self._file = path.open("r+b" if at else "wb")
        self._file.truncate(at)
        self._file.seek(at)
        self._style = style

    def add(self, selection: Selection, after: Place | None, upto: Place | None) -> int:
        copied = selection.copy(self._style, after=after, upto=upto, header=after is None and self._is_csv)
        self._file.writelines(copied)
        return copied.count

    def position(self) -> int:
        """Return how many bytes are safely in the file."""
        self._file.flush()
        return self._file.tell()

    def close(self) -> None:
        self._file.close()

    @property
    def _is_csv(self) -> bool:
        return self._style is not Style.JSON


class _ParquetFile:
    """Parquet, a row group a block: what is copied as CSV is read by Arrow, never by Python."""

    _TYPES = {
        Kind.TEXT: pyarrow.string(),
        Kind.JSON: pyarrow.string(),
        Kind.INTEGER: pyarrow.int64(),
        Kind.DECIMAL: pyarrow.decimal128(25, 6),
        Kind.INSTANT: pyarrow.timestamp("us", tz="UTC"),
        Kind.LOCAL: pyarrow.timestamp("us"),
    }

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def add(self, selection: Selection, after: Place | None, upto: Place | None) -> int:
        schema = pyarrow.schema([(each.name, self._TYPES[each.kind]) for each in selection.columns(Style.PLAIN)])
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self._path, schema, compression="zstd")
        copied = selection.copy(Style.PLAIN, after=after, upto=upto)
        copied.block = _PARQUET_BLOCK
        for block in copied:
            self._writer.write_table(self._table(block, schema))
        return copied.count

    def position(self) -> int:
        return self._path.stat().st_size

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _table(self, block: bytes, schema: Any) -> Any:
        return pyarrow.csv.read_csv(
            pyarrow.BufferReader(block),
            read_options=pyarrow.csv.ReadOptions(
                column_names=schema.names, use_threads=False, block_size=len(block) + 1
            ),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=schema, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        )


class _Workbook:
    """XLSX, row by row to the disk. A sheet holds 1,048,576 rows; what is more goes on in the next."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._book = xlsxwriter.Workbook(
            path, {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
        )
        self._formats = {
            Kind.DECIMAL: self._book.add_format({"num_format": "0.000000"}),
            Kind.INSTANT: self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
            Kind.LOCAL: self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
            None: self._book.add_format({"bold": True}),
        }
        self._sheet: Any = None
        self._row = SHEET_ROWS

    def add(self, selection: Selection, after: Place | None, upto: Place | None) -> int:
        columns, count = selection.columns(Style.PLAIN), 0
        if self._sheet is None:
            self._begin_sheet(columns)
        for cells in selection.rows(Style.PLAIN, after=after, upto=upto):
            if self._row == SHEET_ROWS:
                self._begin_sheet(columns)
            for place, (column, cell) in enumerate(zip(columns, cells, strict=True)):
                self._write(place, column.kind, cell)
            self._row += 1
            count += 1
        return count

    def position(self) -> int:
        return 0

    def close(self) -> None:
        self._book.close()

    def _begin_sheet(self, columns: list[Column]) -> None:
        self._sheet = self._book.add_worksheet()
        self._sheet.freeze_panes(1, 1)
        self._sheet.set_column(0, len(columns) - 1, 18)
        for place, column in enumerate(columns):
            self._sheet.write_string(0, place, column.name, self._formats[None])
        self._row = 1

    def _write(self, place: int, kind: Kind, cell: Any) -> None:
        if cell is None:
            return
        if isinstance(cell, datetime):
            self._sheet.write_datetime(self._row, place, cell.replace(tzinfo=None), self._formats[kind])
        elif isinstance(cell, int | Decimal):
            # A spreadsheet's numbers have 15 digits: micros beyond them would be rounded, so they stay texts.
            if not -_EXACT < cell < _EXACT:
                self._sheet.write_string(self._row, place, str(cell))
            else:
                self._sheet.write_number(self._row, place, cell, self._formats.get(kind))
        else:
            self._sheet.write_string(self._row, place, str(cell)[:32_767])


def _text(style: Style) -> Callable[[Path, int], Any]:
    return lambda path, at: _TextFile(path, at, style)


FORMATS: dict[str, Format] = {
    "csv": Format(
        "CSV",
        "For spreadsheets and most programs. Texts that would be taken for a formula begin with an apostrophe.",
        "csv",
        "text/csv; charset=utf-8",
        Style.CSV,
        bytes_a_call=330,
        at_once=50_000,
        write=_text(Style.CSV),
        resumes=True,
    ),
    "xlsx": Format(
        "XLSX",
        "For Excel, Numbers and LibreOffice. A sheet holds 1,048,575 calls: choose another format for more.",
        "xlsx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        Style.PLAIN,
        bytes_a_call=130,
        at_once=10_000,
        write=lambda path, at: _Workbook(path),
        most=SHEET_ROWS - 1,
        bytes_anyway=6_000,
    ),
    "jsonl": Format(
        "JSON Lines",
        "For programs: a JSON object a line, with products and metadata as they are.",
        "jsonl",
        "application/x-ndjson",
        Style.JSON,
        bytes_a_call=790,
        at_once=50_000,
        write=_text(Style.JSON),
        resumes=True,
    ),
    "parquet": Format(
        "Parquet",
        "For data warehouses and notebooks: typed, packed, by column.",
        "parquet",
        "application/vnd.apache.parquet",
        Style.PLAIN,
        bytes_a_call=45,
        at_once=50_000,
        write=lambda path, at: _ParquetFile(path),
        bytes_anyway=9_000,
    ),
    "focus": Format(
        "FOCUS 1.2",
        "For FinOps tools: a CSV of the settled calls in the columns of the FinOps Foundation, with the invoice.",
        "csv",
        "text/csv; charset=utf-8",
        Style.FOCUS,
        bytes_a_call=610,
        at_once=50_000,
        write=_text(Style.FOCUS),
        resumes=True,
    ),
}


@contextmanager
def writing(name: str, path: Path, *, at: int = 0) -> Iterator[Writer]:
    """Open a file of the format to be written to, at a position that it had before; close it also after an error."""
    writer = FORMATS[name].write(path, at)
    try:
        yield writer
    finally:
        writer.close()


def write(name: str, selection: Selection, path: Path) -> int:
    """Write the whole file at once, and return how many rows it has."""
    with writing(name, path) as out:
        return out.add(selection, None, None)
