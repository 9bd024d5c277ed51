"""The ledger in two pages of plain Python: what the books must say, worked out without the code under test.

Nothing here imports the portal. Where the two disagree, one of them is wrong.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

# What the tests' calls may use: product, component, unit, micros a unit. The odd rates make every rounding count.
PRICES = [
    ("platform", "platform", "minute", 5_001),
    ("voice_a", "voice", "minute", 70_333),
    ("model_a", "llm", "second", 97),
    ("analysis", "per_call", "call", 17_000),
]
PRIORITIES = {"correction": 10, "welcome": 20, "goodwill": 30, "prepaid": 40}
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Call:
    """A recorded call; `number` tells it from all others."""

    started_at: datetime
    number: int
    duration_ms: int
    products: frozenset[str]

    @property
    def lines(self) -> Counter[str]:
        """Micros by component: seconds begun are billed, and each product's part is rounded half up once."""
        seconds = -(-self.duration_ms // 1000)
        sums: Counter[str] = Counter()
        for product, component, unit, rate in PRICES:
            if product in self.products:
                units = {"minute": Fraction(seconds, 60), "second": Fraction(seconds), "call": Fraction(1)}[unit]
                sums[component] += int(units * rate + Fraction(1, 2))
        return sums


@dataclass
class Credit:
    """A grant; `number` is the order in which grants were made."""

    kind: str
    micros: int
    expires_at: datetime | None
    created_at: datetime
    number: int
    left: int

    def burns_before(self) -> tuple[int, datetime, datetime, int]:
        return (PRIORITIES[self.kind], self.expires_at or _NEVER, self.created_at, self.number)

    def spendable(self, now: datetime) -> bool:
        return self.left > 0 and (self.expires_at is None or self.expires_at > now)


@dataclass
class Move:
    """What a command that has an opposite did: micros by where they went. A grant and a month are named by pairs."""

    kind: str
    parts: dict[str | tuple[str, object], int]
    transaction_id: int = 0
    reverses: "Move | None" = None
    is_reversed: bool = False


@dataclass
class Books:
    """One organization: its grants, what waits, what was settled in which month, and what is owed."""

    opened_at: datetime
    zone: str
    has_card: bool = False
    next_zone: str = ""
    arrears_limit: int = 100_000_000
    cap: int | None = None
    holds: dict[str, tuple[str, int]] = field(default_factory=dict)  # by reference: state and micros
    credit: dict[str, Credit] = field(default_factory=dict)
    waiting: list[Call] = field(default_factory=list)
    settled: dict[date, Counter[str]] = field(default_factory=dict)
    calls_settled: int = 0
    burns: list[tuple[str, int]] = field(default_factory=list)  # each time a grant was burnt: its reference, how much
    accrued: Counter[date] = field(default_factory=Counter)
    forgiven: Counter[date] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)  # collected, paid, written off, taken back, expired
    bounds: dict[date, tuple[datetime, datetime]] = field(default_factory=dict)  # of the months begun
    closed: date | None = None

    # ── What happens ──────────────────────────────────────────────────────────────────────────────────────────────────

    def grant(self, reference: str, kind: str, micros: int, expires_at: datetime | None, now: datetime) -> None:
        self.credit[reference] = Credit(kind, micros, expires_at, now, len(self.credit), micros)

    def expire(self, now: datetime) -> int:
        gone = [grant for grant in self.credit.values() if grant.left and grant.expires_at and grant.expires_at <= now]
        for grant in gone:
            self.sums["expired"] += grant.left
            grant.left = 0
        return len(gone)

    def record(self, call: Call) -> None:
        self.waiting.append(call)

    def settle_next(self, now: datetime, only: set[int] | None = None) -> int:
        """Fund waiting calls of the month in which the oldest is billed: `only` these numbers, or all; return how many.

        Which are taken is not the model's business, only that they waited and are of one month.
        """
        if not self.waiting:
            return 0
        month = self.next_month
        batch = [call for call in self.waiting if only is None or call.number in only]
        batch = [call for call in batch if self.month_of(call.started_at, look=True) == month]
        self.waiting = [call for call in self.waiting if call not in batch]
        gross = sum((call.lines for call in batch), Counter())
        self.settled.setdefault(month, Counter()).update(gross)
        self.calls_settled += len(batch)
        owed = gross.total()
        for reference, grant in sorted(self.credit.items(), key=lambda item: item[1].burns_before()):
            if grant.spendable(now):
                taken = min(owed, grant.left)
                if taken:
                    self.burns.append((reference, taken))
                grant.left -= taken
                owed -= taken
        self.accrued[month] += owed
        return len(batch)

    @property
    def next_month(self) -> date:
        return self.month_of(min(call.started_at for call in self.waiting))

    def collect(self, accrued_micros: int, paid_micros: int) -> Move:
        return self.make(Move("collect", {"collected": accrued_micros, "paid": paid_micros}))

    def forgive(self, month: date, micros: int) -> Move:
        return self.make(Move("forgive", {"written off": micros, ("forgiven", month): micros}))

    def write_off(self, micros: int) -> Move:
        return self.make(Move("write off", {"written off": micros}))

    def take_back(self, reference: str) -> Move:
        left = self.credit[reference].left
        return self.make(Move("take back", {"taken back": left, ("left", reference): -left}))

    def undo(self, move: Move) -> Move | None:
        """Do the opposite of a move, once; None where it has none any more."""
        spent = any(key[0] == "left" and micros > self.credit[key[1]].left for key, micros in move.parts.items())
        invoiced = any(key[0] == "forgiven" and self.closed and key[1] <= self.closed for key in move.parts)
        put_back = move.reverses is not None and "written off" in move.parts
        if move.is_reversed or spent or invoiced or put_back:
            return None
        move.is_reversed = True
        return self.make(Move("undo", {key: -micros for key, micros in move.parts.items()}, reverses=move))

    def make(self, move: Move) -> Move:
        for key, micros in move.parts.items():
            if isinstance(key, str):
                self.sums[key] += micros
            elif key[0] == "left":
                self.credit[key[1]].left += micros
            else:
                self.forgiven[key[1]] += micros
        return move

    def reserve(self, reference: str, micros: int, now: datetime) -> bool:
        if micros > self.available(now):
            return False
        self.holds[reference] = ("open", micros)
        return True

    def end(self, reference: str, state: str) -> bool:
        """End a reservation that is open, once; say whether it ended so."""
        was, micros = self.holds[reference]
        if was == "open":
            self.holds[reference] = (state, micros)
        return was in ("open", state)

    def close(self, month: date, now: datetime) -> bool:
        """Close a month that is over, with those before it; the zone moved to is in force from then on."""
        bounds = dict(self.bounds)
        self.begin(month)
        if now < self.bounds[month][1]:
            self.bounds = bounds
            return False
        if self.closed is None or month > self.closed:
            self.closed = month
            self.zone, self.next_zone = self.next_zone or self.zone, ""
        return True

    # ── What follows ──────────────────────────────────────────────────────────────────────────────────────────────────

    def state(self) -> tuple[object, ...]:
        """Return what changes whenever anything moved."""
        left = tuple(grant.left for grant in self.credit.values())
        return (self.calls_settled, left, tuple(sorted(self.sums.items())), self.closed, len(self.bounds))

    def month(self, month: date) -> tuple[Counter[str], int]:
        """Return what a month comes to: gross by component, and what is accrued of it."""
        return +self.settled[month], self.accrued[month] - self.forgiven[month]

    def credit_left(self, now: datetime) -> int:
        return sum(grant.left for grant in self.credit.values() if grant.spendable(now))

    @property
    def owed(self) -> int:
        return self.accrued.total() - self.sums["collected"] - self.sums["written off"]

    def available(self, now: datetime) -> int:
        """Return what may still be spent: credit, and the card up to its limit, below the cap, less what is held."""
        held = sum(micros for state, micros in self.holds.values() if state == "open")
        on_card = max(0, self.arrears_limit - self.owed) if self.has_card else 0
        rooms = [self.credit_left(now) + on_card]
        if self.cap is not None:
            month = now.astimezone(ZoneInfo(self.zone)).date().replace(day=1)
            rooms.append(self.cap - self.settled.get(month, Counter()).total())
        return max(0, min(rooms) - held)

    def forgivable(self, month: date) -> int:
        return max(0, min(self.accrued[month] - self.forgiven[month], self.owed))

    def month_of(self, instant: datetime, *, look: bool = False) -> date:
        """Return the month an instant is billed in: its own, or the first open one. Unless we only `look`, it begins.

        Months follow one another without gap or overlap; one begun keeps its bounds when the zone changes.
        """
        instant = max(instant, self.opened_at)
        if self.closed:
            instant = max(instant, self.bounds[self.closed][1])
        for month, (starts_at, ends_at) in self.bounds.items():
            if starts_at <= instant < ends_at:
                return month
        month = instant.astimezone(ZoneInfo(self.zone)).date().replace(day=1)
        for known, (starts_at, ends_at) in self.bounds.items():
            if ends_at <= instant and month <= known:
                month = following(known)
            if starts_at > instant and month >= known:
                month = (known - timedelta(days=1)).replace(day=1)
        if not look:
            self.begin(month)
        return month

    def begin(self, month: date) -> None:
        """Fix a month's bounds: its zone's midnights, or where its neighbours end and begin."""
        if month not in self.bounds:
            starts_at, ends_at = midnight(month, self.zone), midnight(following(month), self.zone)
            for known, (known_start, known_end) in self.bounds.items():
                starts_at = known_end if following(known) == month else starts_at
                ends_at = known_start if following(month) == known else ends_at
            self.bounds[month] = (starts_at, ends_at)


def following(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def midnight(day: date, zone: str) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
