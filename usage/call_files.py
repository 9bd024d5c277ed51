"""Files of call objects, plain or compressed, read in constant memory: JSON here, tables in `call_tables`.

JSON is an array, a single object or JSON lines. An item is handed on as the bytes it was written in, so that a file and
a request mean the same. In JSON lines an unreadable line is an item like any other, for the reader to reject; an array
that breaks off cannot be followed on.
"""

import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from usage import call_tables
from usage.call_items import FileUnreadable, Item
from usage.call_objects import MAX_ITEM_BYTES
from usage.call_tables import ParquetRows

_CHUNK = 256 * 1024
_BOM = b"\xef\xbb\xbf"
_SPACE = " \t\r\n"
_PACKED = frozenset({".gz", ".xz"})
# Only the end of an item is looked for, so numbers stay text, however long.
_decoder = json.JSONDecoder(parse_int=str, parse_float=str)


@dataclass(frozen=True, slots=True)
class CallFile:
    """An open file: its items, and how many of its bytes were read, for a progress bar."""

    size: int
    items: Iterator[Item]
    bytes_read: Callable[[], int]


@contextmanager
def open_file(path: Path) -> Iterator[CallFile]:
    """Open a file by the end of its name: `.csv`, `.tsv` and `.parquet` are tables, all else is JSON.

    `.gz` and `.xz` are unpacked. Raises OSError; its items raise FileUnreadable.
    """
    size = path.stat().st_size
    with path.open("rb") as stored:
        if path.suffix == ".parquet":
            rows = ParquetRows(stored)
            yield CallFile(size, iter(rows), lambda: rows.share_of(size))
        else:
            yield CallFile(size, _items(_decompressed(path, stored), is_table=_is_table(path)), stored.tell)


def _is_table(path: Path) -> bool:
    inner = path.with_suffix("") if path.suffix in _PACKED else path
    return inner.suffix in {".csv", ".tsv"}


def _decompressed(path: Path, stored: IO[bytes]) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=stored))
    return lzma.LZMAFile(stored) if path.suffix == ".xz" else stored


def _items(file: IO[bytes], *, is_table: bool) -> Iterator[Item]:
    line = 1
    try:
        for item in call_tables.of_csv(file) if is_table else of_json(file):
            line = item.line
            yield item
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise FileUnreadable(line, f"The file cannot be decompressed: {error}.") from error
    except UnicodeDecodeError as error:
        raise FileUnreadable(line, f"The file is not UTF-8: {error.reason}.") from error


def of_json(file: IO[bytes]) -> Iterator[Item]:
    """Yield the items of a JSON text: of an array, of lines, or the only one. Raises FileUnreadable."""
    head = file.read(MAX_ITEM_BYTES + 1)
    file.seek(0)
    start = head.removeprefix(_BOM).lstrip()
    if start.startswith(b"["):
        text = io.TextIOWrapper(file, "utf-8-sig", newline="")
        try:
            yield from _of_array(text)
        finally:
            text.detach()  # whoever opened the file closes it
    elif len(head) <= MAX_ITEM_BYTES and _is_one_value(start):
        yield Item(1 + head[: len(head) - len(start)].count(b"\n"), start)
    else:
        yield from _of_lines(file)


def _is_one_value(text: bytes) -> bool:
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def _of_lines(file: IO[bytes]) -> Iterator[Item]:
    """Yield every line that is not blank; of one that is too long, as much as shows that."""
    number = 0
    while raw := file.readline(MAX_ITEM_BYTES + 2):
        number += 1
        rest = raw
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(_CHUNK)
        raw = raw.removeprefix(_BOM).strip() if number == 1 else raw.strip()
        if raw:
            yield Item(number, raw)


def _of_array(text: io.TextIOWrapper) -> Iterator[Item]:
    window = _Window(text)
    window.expect("[")
    if window.next_character() == "]":
        window.expect("]")
    else:
        yield window.take()
        while window.next_character() == ",":
            window.expect(",")
            yield window.take()
        window.expect("]")
    if window.next_character():
        raise FileUnreadable(window.line, "Something follows the end of the array.")


class _Window:
    """The part of a text that is being looked at: no more than one item and one chunk of it is in memory."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._buffer = ""
        self._at = 0
        self.line = 1

    def next_character(self) -> str:
        """Return the next character that is not white space, without taking it; nothing at the end."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in _SPACE:
                    return self._buffer[self._at]
                self._advance(self._at + 1)
            if not self._read_on():
                return ""

    def expect(self, character: str) -> None:
        found = self.next_character()
        if found != character:
            instead = f"'{found}'" if found else "the end of the file"
            raise FileUnreadable(self.line, f"Expected '{character}' instead of {instead}.")
        self._advance(self._at + 1)

    def take(self) -> Item:
        """Take the next item: read on until it is whole."""
        self.next_character()
        line, end = self.line, self._end_of_item()
        raw = self._buffer[self._at : end].encode()
        self._advance(end)
        return Item(line, raw)

    def _end_of_item(self) -> int:
        while True:
            try:
                end: int = _decoder.raw_decode(self._buffer, self._at)[1]
                # A number at the end of what was read may go on.
                if end < len(self._buffer) or not self._read_on():
                    return end
            except (ValueError, RecursionError) as error:
                too_long = len(self._buffer) - self._at > 2 * MAX_ITEM_BYTES
                if isinstance(error, RecursionError) or too_long or not self._read_on():
                    raise FileUnreadable(self.line, f"The item is not readable JSON: {_plain(error)}.") from None

    def _read_on(self) -> bool:
        chunk = self._text.read(_CHUNK)
        self._buffer, self._at = self._buffer[self._at :] + chunk, 0
        return bool(chunk)

    def _advance(self, end: int) -> None:
        self.line += self._buffer.count("\n", self._at, end)
        self._at = end


def _plain(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
