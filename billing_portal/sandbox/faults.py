"""What goes wrong on purpose: declines, server errors, timeouts, and mishandled webhooks."""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from .errors import invalid
from .moods import Mood

DECLINE_CODES = {
    "generic_decline", "insufficient_funds", "lost_card", "stolen_card", "expired_card", "incorrect_cvc",
    "processing_error", "do_not_honor", "card_velocity_exceeded", "fraudulent", "authentication_required",
}  # fmt: skip


@dataclass
class Faults:
    """Counters that run down as they are used; zero means nothing is wrong."""

    decline: dict[str, Any] = field(default_factory=dict)
    fail: dict[str, Any] = field(default_factory=dict)
    timeout: dict[str, Any] = field(default_factory=dict)
    webhooks: dict[str, Any] = field(default_factory=dict)
    rate_limit: dict[str, Any] = field(default_factory=dict)
    radar: dict[str, Any] = field(default_factory=dict)
    tax: dict[str, Any] = field(default_factory=dict)
    mood: Mood | None = None
    _recent: deque[float] = field(default_factory=deque)

    def set(self, wanted: dict[str, Any]) -> None:
        """Set what the request names and leave the rest; an empty hash ends a fault."""
        names = {
            "decline_next": "decline", "fail_next": "fail", "timeout_next": "timeout", "webhooks": "webhooks",
            "rate_limit": "rate_limit", "radar": "radar", "mood": "mood", "tax": "tax",
        }  # fmt: skip
        for name, value in wanted.items():
            if name not in names or not isinstance(value, dict):
                raise invalid(f"Received unknown parameter: {name}", param=name, code="parameter_unknown")
            if name == "decline_next" and value.get("code", "generic_decline") not in DECLINE_CODES:
                raise invalid(f"Unknown decline code {value['code']}", param="decline_next[code]")
            if name == "mood":
                self.mood = Mood(value) if value else None
                continue
            setattr(self, names[name], {"count": 1} | value if value and name.endswith("_next") else dict(value))

    def take_decline(self) -> str | None:
        """The code the next charge is declined with, if one is to be."""
        if _take(self.decline):
            return str(self.decline.get("code", "generic_decline"))
        return self.mood.decline() if self.mood else None

    def take_failure(self, method: str, path: str) -> dict[str, Any] | None:
        """How this request is to fail: its ``status``, ``when`` ("before" or "after" the effect), and whether the
        failure is ``stored`` under the request's idempotency key, as Stripe does with what began.
        """
        matches = _matches(self.fail, method, path)
        return {"status": 500, "when": "before"} | self.fail if matches and _take(self.fail) else None

    def take_timeout(self, method: str, path: str) -> tuple[str, float] | None:
        """When ("before" or "after" the effect) and for how long this request hangs."""
        if _matches(self.timeout, method, path) and _take(self.timeout):
            return self.timeout.get("when", "before"), float(self.timeout.get("seconds", 30))
        return self.mood.timeout(method) if self.mood else None

    def exceeds_rate(self) -> bool:
        """Whether this request is one too many in a second, where ``{"per_second": n}`` is set."""
        limit, now = self.rate_limit.get("per_second", 0), time.monotonic()
        while self._recent and self._recent[0] <= now - 1:
            self._recent.popleft()
        if limit and len(self._recent) >= limit:
            return True
        self._recent.append(now)
        return False

    def take_drop(self) -> bool:
        if self.webhooks.get("drop_next", 0) <= 0:
            return False
        self.webhooks["drop_next"] -= 1
        return True

    def describe(self) -> dict[str, Any]:
        return {
            "decline_next": self.decline,
            "fail_next": self.fail,
            "timeout_next": self.timeout,
            "webhooks": self.webhooks,
            "rate_limit": self.rate_limit,
            "radar": self.radar,
            "tax": self.tax,
            "mood": self.mood.describe() if self.mood else {},
        }


def _take(fault: dict[str, Any]) -> bool:
    if fault.get("count", 0) <= 0:
        return False
    fault["count"] -= 1
    return True


def _matches(fault: dict[str, Any], method: str, path: str) -> bool:
    wanted = fault.get("method", method).upper()
    return bool(fault) and wanted == method and str(fault.get("path", "")) in path
