"""What PostgreSQL's jsonb cannot hold, found before it is sent there."""

from typing import Any

MAX_DEPTH = 64
_WALKED = (dict, list, str)


class TooComplex(Exception):
    """A JSON value that cannot be stored; `path` names the place as far as it is known."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path
        self.reason = reason


def check_values(raw: bytes, tree: Any) -> None:
    """Refuse NUL characters and values nested deeper than 64.

    `tree` is `raw` decoded. It is walked only when the text makes one of these possible.
    """
    if (b"\\" in raw and b"\\u0000" in raw) or raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        _walk(tree, "", 0)


def _walk(value: Any, path: str, depth: int) -> None:
    if isinstance(value, str):
        _refuse_nul(value, path)
    elif depth > MAX_DEPTH:
        raise TooComplex(path.partition(".")[0].partition("[")[0], f"Values are nested deeper than {MAX_DEPTH}.")
    elif isinstance(value, dict):
        for name, inner in value.items():
            _refuse_nul(name, path)
            if isinstance(inner, _WALKED):
                _walk(inner, f"{path}.{name}" if path else name, depth + 1)
    else:
        for position, inner in enumerate(value):
            if isinstance(inner, _WALKED):
                _walk(inner, f"{path}[{position}]", depth + 1)


def _refuse_nul(text: str, path: str) -> None:
    if "\x00" in text:
        raise TooComplex(path, "The text contains a NUL character.")
