"""Tables of calls: CSV and Parquet, whose columns are the fields of a call object.

A column named with a dot (`metadata.deal`, `llm_token_usage.average`) is a field within a field. Empty cells are fields
that are not there. CSV knows only texts, so there a column's name says what is meant: times and lengths are numbers
where they look like one, lists are separated by semicolons, and what is an object in a call object is written as JSON.
"""

import csv
import io
import re
from collections.abc import Iterator
from typing import IO, Any

import msgspec
import pyarrow
import pyarrow.parquet

from usage.call_items import FileUnreadable, Item
from usage.call_objects import MAX_ITEM_BYTES

_ROWS_AT_ONCE = 1000
_DELIMITERS = ",;\t|"
_LISTS = frozenset({"products", "add_ons"})
_NUMBERS = frozenset({"duration_ms", "start_timestamp", "end_timestamp"})
_OBJECTS = frozenset({"metadata", "call_cost", "llm_token_usage"})
_NUMBERS_WITHIN = "llm_token_usage."
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?", re.ASCII)

_encoder = msgspec.json.Encoder(decimal_format="number")
_raw_decoder = msgspec.json.Decoder(msgspec.Raw)


def of_csv(file: IO[bytes]) -> Iterator[Item]:
    """Yield the rows of a CSV file with a header. Raises FileUnreadable where it cannot be followed."""
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    csv.field_size_limit(MAX_ITEM_BYTES)
    line = 1
    try:
        rows = csv.reader(text, delimiter=_delimiter(text))
        header = _header(next(rows, []))
        line = rows.line_num + 1
        for cells in rows:
            if cells:
                yield _row(line, header, cells)
            line = rows.line_num + 1
    except csv.Error as error:
        raise FileUnreadable(line, f"The row is not readable CSV: {error}.") from None
    finally:
        text.detach()  # whoever opened the file closes it


class ParquetRows:
    """The rows of a Parquet file, a thousand in memory. Raises FileUnreadable where it cannot be followed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._done, self._rows = 0, 1

    def __iter__(self) -> Iterator[Item]:
        try:
            table = pyarrow.parquet.ParquetFile(self._file)
            self._rows = max(1, table.metadata.num_rows)
            for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE):
                for fields in batch.to_pylist():
                    self._done += 1
                    yield _item(self._done, fields)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise FileUnreadable(self._done + 1, f"The file is not readable Parquet: {error}.") from None

    def share_of(self, size: int) -> int:
        """Return as much of `size` as rows were read of all: a file is not read from its begin to its end."""
        return size * self._done // self._rows


def _delimiter(text: io.TextIOWrapper) -> str:
    """Return what separates the names of the header, and go back to its begin."""
    first = text.readline(MAX_ITEM_BYTES)
    text.seek(0)
    return max(_DELIMITERS, key=first.count)


def _header(names: list[str]) -> list[str]:
    names = [name.strip() for name in names]
    if len(set(names)) < len(names) or not all(names):
        raise FileUnreadable(1, "Every column needs a name of its own in the first line.")
    if "call_id" not in names:
        raise FileUnreadable(1, "The first line names the columns as the fields of a call object; call_id is missing.")
    return names


def _row(line: int, header: list[str], cells: list[str]) -> Item:
    if len(cells) > len(header):
        return Item(line, b"", fault=f"The row has {len(cells)} cells for {len(header)} columns.")
    named = zip(header, cells, strict=False)
    return _item(line, {name: _meant(name, cell) for name, cell in named if cell.strip()})


def _meant(name: str, cell: str) -> Any:
    """Return what a cell means in its column; a text that does not fit is left to the call's reader to refuse."""
    if name in _LISTS and not cell.lstrip().startswith("["):
        return [part.strip() for part in cell.split(";") if part.strip()]
    if name in _LISTS or name in _OBJECTS:
        return _json(cell)
    if name in _NUMBERS or name.startswith(_NUMBERS_WITHIN):
        return msgspec.Raw(cell.strip().encode()) if _NUMBER.fullmatch(cell.strip()) else cell
    return cell


def _json(cell: str) -> Any:
    try:
        return _raw_decoder.decode(cell)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return cell


def _item(line: int, fields: dict[str, Any]) -> Item:
    """Return a row as a call object; a Parquet text in the place of an object is read as JSON."""
    item: dict[str, Any] = {}
    for name, value in fields.items():
        if value is None:
            continue
        outer, dot, inner = name.partition(".")
        if not dot:
            item[name] = _json(value) if name in _OBJECTS and isinstance(value, str) else value
        elif isinstance(within := item.setdefault(outer, {}), dict):
            within[inner] = value
        else:
            return Item(line, b"", fault=f"{name} stands beside {outer}, which is whole.")
    try:
        return Item(line, _encoder.encode(item))
    except (TypeError, ValueError, OverflowError) as error:
        return Item(line, b"", fault=f"The row cannot be written as JSON: {error}.")
