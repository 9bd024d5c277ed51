"""Merkle trees over lines, in the shape of RFC 6962: what is put under a root cannot change, nor be left out.

A leaf is the SHA-256 of a zero byte and the line, a node that of a one byte and its two children, the root of nothing
that of nothing. Lines come in subtrees of 1,024: their roots are kept, so that a fault is found in one of them, and the
path of a line needs no more than its own.
"""

import hashlib
from collections.abc import Iterable, Sequence

CHUNK = 1_024


def leaf(line: bytes) -> bytes:
    """Return the hash of one line."""
    return hashlib.sha256(b"\0" + line).digest()


def root(hashes: Sequence[bytes]) -> bytes:
    """Return the root over hashes of leaves, or of subtrees of one size of which only the last may be smaller."""
    level = list(hashes)
    if not level:
        return hashlib.sha256().digest()
    while len(level) > 1:
        level = _above(level)
    return level[0]


def path(hashes: Sequence[bytes], place: int) -> list[bytes]:
    """Return the neighbours of the hash at `place` from the bottom to the root; one that stands alone has none."""
    level, found = list(hashes), []
    while len(level) > 1:
        neighbour = place ^ 1
        if neighbour < len(level):
            found.append(level[neighbour])
        level, place = _above(level), place // 2
    return found


class Tree:
    """A tree that grows line by line, and remembers no more than the roots of its subtrees."""

    def __init__(self) -> None:
        self.lines = 0
        self.subtrees: list[bytes] = []
        self._open: list[bytes] = []

    def add(self, line: bytes) -> None:
        """Put a line under the root."""
        self._open.append(leaf(line))
        self.lines += 1
        if len(self._open) == CHUNK:
            self._close()

    def finish(self) -> bytes:
        """Return the root over all lines; none may follow."""
        if self._open:
            self._close()
        return root(self.subtrees)

    def _close(self) -> None:
        self.subtrees.append(root(self._open))
        self._open = []


def of(lines: Iterable[bytes]) -> Tree:
    """Return the finished tree over lines."""
    tree = Tree()
    for line in lines:
        tree.add(line)
    tree.finish()
    return tree


def _above(level: list[bytes]) -> list[bytes]:
    """Return the nodes above a level; the last of an odd number goes up as it is."""
    pairs = zip(level[::2], level[1::2], strict=False)
    nodes = [hashlib.sha256(b"\1" + left + right).digest() for left, right in pairs]
    return nodes + level[len(nodes) * 2 :]
