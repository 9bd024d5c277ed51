"""Running what falls due, in order and each at its own instant."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .api import describe_failure
from .registry import JOBS

if TYPE_CHECKING:
    from .engine import Sandbox

log = logging.getLogger(__name__)

YIELD_EVERY = 20
TICK_SECONDS = 0.1


class Timekeeper:
    """The only one who runs jobs; one advance at a time."""

    def __init__(self, box: "Sandbox") -> None:
        self._box = box
        self._lock = asyncio.Lock()

    async def advance(self, target: float) -> dict[str, Any]:
        """Move the sandbox's clock to an instant; everything due before it happens first."""
        async with self._lock:
            result = await self._run_due(target, "", self._box.clock.advance_to)
            self._box.clock.advance_to(target)
            self._box.store.commit()
            return result

    async def tick(self) -> None:
        """Run what has fallen due as the clock ticks by itself."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            async with self._lock:
                await self._run_due(self._box.clock.exact(), "", self._box.clock.advance_to)

    async def advance_test_clock(self, clock_id: str, target: float, reach: Callable[[float], None]) -> None:
        async with self._lock:
            await self._run_due(target, clock_id, reach)

    async def _run_due(self, target: float, clock: str, reach: Callable[[float], None]) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        failures = []
        while entry := self._box.agenda.pop_due(target, clock):
            reach(entry["due"])
            self._box.store.commit()
            failure = self._run(entry)
            counts[entry["name"]] += 1
            if failure:
                failures.append(failure)
            if counts.total() % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        return {"jobs": dict(counts), "failures": failures}

    def _run(self, entry: dict[str, Any]) -> str | None:
        """Run one entry as a transaction of its own, at the instant it fell due."""
        box = self._box
        held = box.clock.freeze(entry["due"])
        try:
            JOBS[entry["name"]](box, entry["target"])
        except Exception as error:
            box.rollback()
            log.exception("a due job failed")
            return f"{entry['name']} {entry['target']}: {describe_failure(error)}"
        else:
            box.commit()
        finally:
            box.clock.freeze(held)
        return None
