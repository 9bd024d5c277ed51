"""All state of the sandbox: objects by kind and key, in memory, optionally journaled to SQLite.

Every change goes through `insert`, `change` or `remove`, so that an unsuccessful request can be undone as a
whole and a successful one written as a whole. Fields whose name starts with an underscore never leave the
process. Nested values are replaced, never edited in place: snapshots may share them.
"""

import json
import sqlite3
from typing import Any

Object = dict[str, Any]


def snapshot(value: Any) -> Any:
    """A copy that shares nothing; all values are JSON, and this is several times faster than ``deepcopy``."""
    return json.loads(json.dumps(value))


class Store:
    """Objects by kind, in the order they were made, with an index per field that is asked for."""

    def __init__(self, path: str | None = None) -> None:
        self.tables: dict[str, dict[str, Object]] = {}
        self.kind_of: dict[str, str] = {}
        self._indexes: dict[tuple[str, str], dict[Any, dict[str, None]]] = {}
        self._undo: list[tuple[str, Object, dict[str, Any] | None]] = []
        self._database = _open(path) if path else None
        self._load()

    # Reading

    def get(self, kind: str, key: str) -> Object | None:
        return self.tables.get(kind, {}).get(key)

    def find(self, key: str) -> Object | None:
        """The API object with this id, whatever its kind."""
        kind = self.kind_of.get(key)
        return self.tables[kind].get(key) if kind else None

    def all(self, kind: str) -> list[Object]:
        """Every object of a kind, oldest first."""
        return list(self.tables.get(kind, {}).values())

    def where(self, kind: str, **equals: Any) -> list[Object]:
        """Objects whose fields equal the given values, oldest first; the first field is indexed."""
        (field, value), *others = equals.items()
        keys = self._index(kind, field).get(value, ())
        found = [self.tables[kind][key] for key in keys]
        return [o for o in found if all(o.get(name) == wanted for name, wanted in others)]

    def _index(self, kind: str, field: str) -> dict[Any, dict[str, None]]:
        if (kind, field) not in self._indexes:
            index = self._indexes[kind, field] = {}
            for key, obj in self.tables.get(kind, {}).items():
                index.setdefault(obj.get(field), {})[key] = None
        return self._indexes[kind, field]

    # Writing

    def insert(self, kind: str, key: str, obj: Object) -> Object:
        obj["_kind"], obj["_key"] = kind, key
        self._put(obj)
        self._undo.append(("insert", obj, None))
        return obj

    def change(self, obj: Object, **changes: Any) -> dict[str, Any]:
        """Set fields and return the previous values of those that really changed."""
        before = {name: obj.get(name) for name, value in changes.items() if obj.get(name) != value}
        if before:
            absent = [name for name in before if name not in obj]
            self._assign(obj, {name: changes[name] for name in before})
            self._undo.append(("change", obj, {"before": before, "absent": absent}))
        return before

    def remove(self, obj: Object) -> None:
        self._drop(obj)
        self._undo.append(("remove", obj, None))

    def _put(self, obj: Object) -> None:
        kind, key = obj["_kind"], obj["_key"]
        self.tables.setdefault(kind, {})[key] = obj
        if not kind.startswith("_"):
            self.kind_of[key] = kind
        for (indexed, field), index in self._indexes.items():
            if indexed == kind:
                index.setdefault(obj.get(field), {})[key] = None

    def _drop(self, obj: Object) -> None:
        kind, key = obj["_kind"], obj["_key"]
        del self.tables[kind][key]
        self.kind_of.pop(key, None)
        for (indexed, field), index in self._indexes.items():
            if indexed == kind:
                index.get(obj.get(field), {}).pop(key, None)

    def _assign(self, obj: Object, changes: dict[str, Any]) -> None:
        for name, value in changes.items():
            index = self._indexes.get((obj["_kind"], name))
            if index is not None:
                index.get(obj.get(name), {}).pop(obj["_key"], None)
                index.setdefault(value, {})[obj["_key"]] = None
            obj[name] = value

    # One request, all or nothing

    def mark(self) -> int:
        """A point to roll back to within a transaction."""
        return len(self._undo)

    def rollback(self, mark: int = 0) -> None:
        """Undo every change since the last commit (or a mark), newest first."""
        while len(self._undo) > mark:
            action, obj, details = self._undo.pop()
            if action == "insert":
                self._drop(obj)
            elif action == "remove":
                self._put(obj)
            elif details:
                self._assign(obj, details["before"])
                for name in details["absent"]:
                    del obj[name]

    def commit(self) -> None:
        if self._database is not None:
            self._journal()
        self._undo.clear()

    def _journal(self) -> None:
        touched = {(obj["_kind"], obj["_key"]): obj for _, obj, _ in self._undo}
        alive, dead = [], []
        for (kind, key), obj in touched.items():
            if self.get(kind, key) is obj:
                alive.append((kind, key, json.dumps(obj)))
            else:
                dead.append((kind, key))
        assert self._database is not None
        with self._database:
            self._database.executemany("DELETE FROM objects WHERE kind = ? AND key = ?", dead)
            self._database.executemany(
                "INSERT INTO objects (kind, key, body) VALUES (?, ?, ?)"
                " ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body",
                alive,
            )

    def _load(self) -> None:
        if self._database is None:
            return
        for (body,) in self._database.execute("SELECT body FROM objects ORDER BY seq"):
            self._put(json.loads(body))

    def clear(self) -> None:
        self.tables.clear()
        self.kind_of.clear()
        self._indexes.clear()
        self._undo.clear()
        if self._database is not None:
            with self._database:
                self._database.execute("DELETE FROM objects")

    def close(self) -> None:
        if self._database is not None:
            self._database.close()


def _open(path: str) -> sqlite3.Connection:
    """One table; the write-ahead log survives the end of the process without a sync on every request."""
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = OFF")
    database.execute(
        "CREATE TABLE IF NOT EXISTS objects"
        " (seq INTEGER PRIMARY KEY, kind TEXT, key TEXT, body TEXT, UNIQUE (kind, key))"
    )
    return database
