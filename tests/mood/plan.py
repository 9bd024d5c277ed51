"""What customers do in a year: by a seed alone, so the same in a calm world and in a bad one."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

FIRST_MONTH = date(2027, 1, 1)
# Calls and events are recorded at noon of these days, and corrected on the last.
USES_ON, USES_AGAIN_ON, CORRECTS_ON = 6, 18, 20
# What each customer of ten does besides calling and correcting; the first five of them show most of it.
HABITS = (
    {"buys", "is refunded"},
    {"tops up"},
    {"calls much"},
    {"buys a bucket", "writes"},
    {"disputes credit"},
    {"pays by hand"},
    {"writes"},
    {"is credited"},
    {"calls little"},
    {"buys", "calls much"},
)


@dataclass(frozen=True)
class Plan:
    """One customer's year."""

    number: int
    seed: int = 7

    @property
    def reference(self) -> str:
        return f"customer-{self.number:02}"

    def does(self, habit: str) -> bool:
        return habit in HABITS[self.number % len(HABITS)]

    def calls(self, month: date, day: int) -> list[dict[str, Any]]:
        """Return the calls recorded on a day; on the second day one that is a month late."""
        count = 1 if self.does("calls little") else 16 if self.does("calls much") else 6
        begins = datetime(month.year, month.month, day, 8, tzinfo=UTC)
        found = [self._call(month, f"{month:%y%m}-{day}-{n}", begins + timedelta(minutes=9 * n)) for n in range(count)]
        if day == USES_AGAIN_ON and month > FIRST_MONTH:
            found.append(self._call(month, f"{month:%y%m}-late", begins - timedelta(days=23)))
        return found

    def corrections(self, month: date) -> Iterator[dict[str, Any]]:
        """Yield what was counted wrongly: a call of this month, and one of the month before, which is invoiced."""
        if self.does("calls little"):
            return
        yield self._corrected(self.calls(month, USES_ON)[0], 1_000)
        if month > FIRST_MONTH:
            before = (month - timedelta(days=1)).replace(day=1)
            yield self._corrected(self.calls(before, USES_ON)[1], 1_000 if month.month % 2 else 1_500_000)

    def events(self, month: date, day: int) -> Iterator[dict[str, Any]]:
        """Yield what happened in conversations: most end well, one in silence, and some customers come back."""
        if not self.does("writes"):
            return
        at = datetime(month.year, month.month, day, 8, tzinfo=UTC)
        if day == CORRECTS_ON:
            yield self._event(f"{month:%y%m}-{USES_ON}-1", "customer_replied", at, reply_kind="needs_help")
            if month > FIRST_MONTH:
                before = month - timedelta(days=1)
                yield self._event(f"{before:%y%m}-{USES_ON}-0", "customer_replied", at, reply_kind="needs_help")
            return
        for number in range(6):
            name = f"{month:%y%m}-{day}-{number}"
            yield self._event(name, "ai_answered", at)
            if number:
                yield self._event(name, "customer_replied", at + timedelta(minutes=5), reply_kind="affirmative")

    def _call(self, month: date, name: str, starts_at: datetime) -> dict[str, Any]:
        rng = random.Random(f"{self.seed} {self.number} {name}")
        return {
            "call_id": f"{self.reference}-{name}",
            "organization": self.reference,
            "call_type": "phone_call",
            "call_status": "ended",
            "start_timestamp": starts_at.isoformat(),
            "duration_ms": rng.randrange(60_000, 500_000),
            "products": ["platform", "elevenlabs_tts", "gpt_4o_mini"],
        }

    @staticmethod
    def _corrected(call: dict[str, Any], duration_ms: int) -> dict[str, Any]:
        told = {"correction": True, "revision": 1, "correction_reason": "Counted wrongly"}
        return call | told | {"duration_ms": duration_ms}

    def _event(self, conversation: str, kind: str, at: datetime, **more: Any) -> dict[str, Any]:
        return {
            "organization": self.reference,
            "conversation_id": f"{self.reference}-{conversation}",
            "event_id": f"{self.reference}-{conversation}-{kind}-{at:%d%H%M}",
            "type": kind,
            "occurred_at": at.isoformat(),
            **more,
        }


def months(count: int) -> list[date]:
    return [FIRST_MONTH.replace(year=FIRST_MONTH.year + n // 12, month=n % 12 + 1) for n in range(count)]
