"""The sandbox's time: wall time plus an offset that only grows, and the work that falls due in it."""

import heapq
import time
from datetime import UTC, datetime

from .store import Object, Store


class Clock:
    """Ticks with the wall clock; `advance_to` moves it forward and it never goes back."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._frozen_at: float | None = None
        if not store.get("_clock", "clock"):
            store.insert("_clock", "clock", {"offset": 0.0})
            store.commit()

    @property
    def offset(self) -> float:
        record = self._store.get("_clock", "clock")
        return record["offset"] if record else 0.0

    def exact(self) -> float:
        return self._frozen_at if self._frozen_at is not None else time.time() + self.offset

    def advance_to(self, instant: float) -> None:
        ahead = instant - time.time()
        if ahead > self.offset:
            record = self._store.get("_clock", "clock") or self._store.insert("_clock", "clock", {"offset": 0})
            self._store.change(record, offset=ahead)

    def start_at(self, instant: float) -> None:
        """Begin at `instant`, which may lie in the past: so that months can be lived through up to today."""
        record = self._store.get("_clock", "clock") or self._store.insert("_clock", "clock", {"offset": 0})
        self._store.change(record, offset=instant - time.time())

    def freeze(self, instant: float | None) -> float | None:
        """Hold the time still (None lets it tick again); returns what it was held at before."""
        before, self._frozen_at = self._frozen_at, instant
        return before

    def iso(self) -> str:
        return datetime.fromtimestamp(self.exact(), UTC).isoformat().replace("+00:00", "Z")


class Agenda:
    """Work that falls due: one entry per job name and object, kept in the store.

    An entry belongs to the sandbox's clock or to one test clock, which then alone makes it fall due.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._heaps: dict[str, list[tuple[float, int, str]]] = {}
        self._count = 0
        for entry in store.all("_job"):
            self._push(entry)

    def put(self, name: str, target: str, due: float, clock: str = "") -> None:
        """Have ``name`` run for ``target`` at ``due``, in place of an earlier appointment."""
        self.drop(name, target)
        key = f"{name}:{target}"
        entry = {"name": name, "target": target, "due": due, "clock": clock}
        self._push(self._store.insert("_job", key, entry))

    def drop(self, name: str, target: str) -> None:
        if entry := self._store.get("_job", f"{name}:{target}"):
            self._store.remove(entry)

    def due_at(self, name: str, target: str) -> float | None:
        entry = self._store.get("_job", f"{name}:{target}")
        return entry["due"] if entry else None

    def _push(self, entry: Object) -> None:
        self._count += 1
        heap = self._heaps.setdefault(entry["clock"], [])
        heapq.heappush(heap, (entry["due"], self._count, entry["_key"]))

    def pop_due(self, until: float, clock: str = "") -> Object | None:
        """Take the earliest entry that is due by then; entries that were replaced or dropped are skipped."""
        heap = self._heaps.get(clock, [])
        while heap and heap[0][0] <= until:
            due, _, key = heapq.heappop(heap)
            entry = self._store.get("_job", key)
            if entry and entry["due"] == due and entry["clock"] == clock:
                self._store.remove(entry)
                return entry
        return None
