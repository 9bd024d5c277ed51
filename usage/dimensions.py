"""What many calls have in common, kept once: kinds of calls, agents, product mixes. A call's row has their numbers."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from django.db import connection, transaction

from usage.models import ProductMix
from usage.snapshots import Snapshot

_KEPT = 100_000


class KindKey(NamedTuple):
    """How a call began and ended."""

    call_type: str
    direction: str
    status: str
    disconnection_reason: str


class AgentKey(NamedTuple):
    """An organization's agent, by the vendor's reference and its name."""

    organization_id: int
    reference: str
    name: str


class MixKey(NamedTuple):
    """A set of products, sorted, under a price version; 0 is none."""

    version_id: int
    products: tuple[str, ...]


Key = TypeVar("Key", KindKey, AgentKey, MixKey)


@dataclass(slots=True)
class _Dimension(Generic[Key]):
    """The numbers of keys, made when a key is first seen.

    A number is kept in the process once the transaction that may have made it is committed.
    """

    find: str
    store: str
    known: dict[Key, int] = field(default_factory=dict)

    def numbers(self, keys: Iterable[Key], columns: list[list[Any]]) -> dict[Key, int]:
        """Return the numbers of unknown `keys`, whose columns stand in parallel."""
        keys = list(keys)
        with connection.cursor() as cursor:
            cursor.execute(self.find, columns)
            found = cursor.fetchall()
            if len(found) < len(keys):
                cursor.execute(self.store, columns)
                cursor.execute(self.find, columns)
                found = cursor.fetchall()
        numbers = {keys[position - 1]: number for position, number in found}
        transaction.on_commit(lambda: self._keep(numbers))
        return numbers

    def _keep(self, numbers: dict[Key, int]) -> None:
        if len(self.known) > _KEPT:
            self.known.clear()
        self.known.update(numbers)


_kinds = _Dimension[KindKey](
    find="""
        SELECT asked.position, id FROM usage_callkind kind
        JOIN unnest(%s::text[], %s::text[], %s::text[], %s::text[]) WITH ORDINALITY AS asked (t, di, s, r, position)
          ON (call_type, direction, status, disconnection_reason) = (t, di, s, r)""",
    store="""
        INSERT INTO usage_callkind (call_type, direction, status, disconnection_reason)
        SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) ON CONFLICT DO NOTHING""",
)
_agents = _Dimension[AgentKey](
    find="""
        SELECT asked.position, id FROM usage_agent agent
        JOIN unnest(%s::bigint[], %s::text[], %s::text[]) WITH ORDINALITY AS asked (o, r, n, position)
          ON (organization_id, reference, name) = (o, r, n)""",
    store="""
        INSERT INTO usage_agent (organization_id, reference, name)
        SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[]) ON CONFLICT DO NOTHING""",
)
_mixes = _Dimension[MixKey](
    find="""
        SELECT asked.position, id FROM usage_productmix mix
        JOIN unnest(%s::bigint[], %s::uuid[], %s::text[], %s::text[])
             WITH ORDINALITY AS asked (v, k, p, r, position)
          ON products_key = k AND price_version_id IS NOT DISTINCT FROM nullif(v, 0)""",
    store="""
        INSERT INTO usage_productmix (price_version_id, products_key, products, rate_ids)
        SELECT nullif(v, 0), k, p::varchar[], r::bigint[]
        FROM unnest(%s::bigint[], %s::uuid[], %s::text[], %s::text[]) AS mix (v, k, p, r) ON CONFLICT DO NOTHING""",
)


def kinds(keys: set[KindKey]) -> dict[KindKey, int]:
    """Return the number of every kind."""
    missing = sorted(key for key in keys if key not in _kinds.known)
    if not missing:
        return _kinds.known
    made = _kinds.numbers(missing, _columns(missing))
    return {key: made.get(key) or _kinds.known[key] for key in keys}


def agents(keys: set[AgentKey]) -> dict[AgentKey, int]:
    """Return the number of every agent."""
    missing = sorted(key for key in keys if key not in _agents.known)
    if not missing:
        return _agents.known
    made = _agents.numbers(missing, _columns(missing))
    return {key: made.get(key) or _agents.known[key] for key in keys}


def mixes(keys: dict[MixKey, Snapshot | None]) -> dict[MixKey, int]:
    """Return the number of every mix; a new one remembers the rates of its lines, as its snapshot has them."""
    missing = sorted(key for key in keys if key not in _mixes.known)
    if not missing:
        return _mixes.known
    rows = []
    for key in missing:
        snapshot = keys[key]
        rate_ids = snapshot.rate_ids(key.products) if snapshot else []
        rows.append((key.version_id, _products_key(key.products), array(key.products), array(map(str, rate_ids))))
    made = _mixes.numbers(missing, _columns(rows))
    return {key: made.get(key) or _mixes.known[key] for key in keys}


_rate_ids: dict[int, list[int]] = {}


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _products_key(products: tuple[str, ...]) -> UUID:
    return UUID(bytes=hashlib.sha256("\0".join(products).encode()).digest()[:16])


def array(items: Iterable[str]) -> str:
    """Return PostgreSQL's text of an array: arrays of arrays of different lengths can only travel so."""
    quoted = ('"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"' for item in items)
    return "{" + ",".join(quoted) + "}"


def rate_ids(mix_ids: set[int]) -> dict[int, list[int]]:
    """Return the rates of the mixes' lines, by place."""
    missing = sorted(mix_ids - _rate_ids.keys())
    if missing:
        mixes = ProductMix.objects.filter(pk__in=missing)
        found = dict(mixes.values_list("pk", "rate_ids"))
        transaction.on_commit(lambda: _rate_ids.update(found))
        return {number: found.get(number) or _rate_ids.get(number, []) for number in mix_ids}
    return _rate_ids


def forget() -> None:
    """Drop what this process knows: for one whose database is emptied under it, as tests do."""
    for known in (_kinds.known, _agents.known, _mixes.known, _rate_ids):
        known.clear()
