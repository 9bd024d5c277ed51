"""A mood: what goes wrong by chance, each with a share of its own, drawn from a seed and counted.

The counters of `faults` break one thing on purpose. A mood breaks a share of everything, for as long as it lasts, so
that whole months can be lived through with it.
"""

import random
from collections import Counter
from typing import Any

from .errors import invalid

# Soft declines are told more often than final ones, as banks do.
DECLINES = (
    *("generic_decline", "insufficient_funds", "do_not_honor", "processing_error") * 4,
    *("expired_card", "lost_card", "stolen_card", "authentication_required"),
)
SHARES = ("declined", "timed_out", "duplicated", "delayed")
LONGEST_DELAY = 3 * 86400
_MEASURES = {"longest_delay_seconds": LONGEST_DELAY, "timeout_seconds": 30}


class Mood:
    """Shares between 0 and 1 of what is `declined`, `timed_out`, `duplicated` and `delayed`."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        for name, value in wanted.items():
            known = name in {*SHARES, *_MEASURES, "seed"}
            if not known or not isinstance(value, int | float) or value < 0 or (name in SHARES and value > 1):
                raise invalid(f"A mood has no such {name}: {value}", param=f"mood[{name}]")
        self.wanted = wanted
        self.counted: Counter[str] = Counter()
        self._random = random.Random(wanted.get("seed", 0))  # noqa: S311 -- chance that can be repeated
        self._newest: dict[str, int] = {}

    def decline(self) -> str | None:
        """The code that a charge is declined with, if it is."""
        return self._random.choice(DECLINES) if self._falls("declined") else None

    def timeout(self, method: str) -> tuple[str, float] | None:
        """Let a write have its effect and its answer come too late."""
        if method == "GET" or not self._falls("timed_out"):
            return None
        return "after", self._measure("timeout_seconds")

    def delays(self) -> list[float]:
        """After how many seconds of the sandbox's clock an event is delivered: once, or again as well."""
        times = 2 if self._chance("duplicated") else 1
        longest = self._measure("longest_delay_seconds")
        return [self._random.uniform(0, longest) if self._chance("delayed") else 0.0 for _ in range(times)]

    def note_delivery(self, record: dict[str, Any]) -> None:
        """Count what a delivery that arrived was: late, a repetition, behind a later event of its endpoint."""
        newest = self._newest.get(record["endpoint"], 0)
        self._newest[record["endpoint"]] = max(newest, record["number"])
        self.counted["delivered"] += 1
        self.counted["delayed"] += record["is_delayed"]
        self.counted["duplicated"] += record["is_repeat"]
        self.counted["reordered"] += record["number"] < newest

    def describe(self) -> dict[str, Any]:
        return self.wanted | {"counted": dict(self.counted)}

    def _falls(self, name: str) -> bool:
        """Draw, and count what was drawn for and what fell."""
        self.counted[f"could_be_{name}"] += 1
        falls = self._chance(name)
        self.counted[name] += falls
        return falls

    def _chance(self, name: str) -> bool:
        share = self.wanted.get(name, 0)
        return bool(share) and self._random.random() < share

    def _measure(self, name: str) -> float:
        return float(self.wanted.get(name, _MEASURES[name]))
