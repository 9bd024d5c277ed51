"""How long calls take, beside each other in one run, so that what else the machine does falls on all of them alike."""

import gc
import math
import time
from collections.abc import Callable, Mapping


def interleaved(calls: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int = 50) -> dict[str, list[float]]:
    """Make every call once a round, in turn, and return the milliseconds of each by name, without the warm-up's."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    for turn in range(warm_up + rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if turn >= warm_up:
                taken[name].append((time.perf_counter() - started) * 1000)
    return taken


def percentile(values: list[float], percent: float) -> float:
    """Return the smallest value that `percent` of all do not exceed."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]
