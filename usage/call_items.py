"""What a file of calls is made of, whatever its format."""

from dataclasses import dataclass


class FileUnreadable(Exception):
    """From `line` on the file cannot be followed."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Item:
    """One call object as it was written, and the line on which it starts.

    With a fault nothing could be made of it: it is to be answered as rejected.
    """

    line: int
    raw: bytes
    fault: str = ""
