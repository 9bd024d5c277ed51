"""The list of calls as pages ask for it: filters and cursors from an address, rows for a template."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any

from django.http import QueryDict

from accounts.models import Organization
from usage import calls

STATUSES = (
    ("ended", "Ended"),
    ("not_connected", "Not connected"),
    ("error", "Error"),
    ("ongoing", "Ongoing"),
    ("registered", "Registered"),
)
_PAGE_SIZE = 50
_LONGEST = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Filters:
    """What a person filters by, as the form shows it, and the same for the query."""

    product: str
    status: str
    call_id: str
    of_calls: calls.Filters

    @classmethod
    def of(cls, query: QueryDict, *, starts_on: date, ends_on: date, zone: tzinfo) -> "Filters":
        """Read the filters of an address; both days are included, in the organization's zone."""
        product, status, call_id = (_plain(query.get(name, "")) for name in ("product", "status", "call_id"))
        return cls(
            product=product,
            status=status,
            call_id=call_id,
            of_calls=calls.Filters(
                starts_at=datetime.combine(starts_on, time.min, zone),
                ends_at=datetime.combine(ends_on + timedelta(days=1), time.min, zone),
                product=product,
                status=status,
                call_id_prefix=call_id,
            ),
        )


@dataclass(frozen=True, slots=True)
class Page:
    """One page of calls; `next_cursor` is empty on the last. One that is partial may be short, with more to come."""

    calls: list[dict[str, Any]]
    is_later: bool
    is_partial: bool
    next_cursor: str


def range_of(query: QueryDict, today: date) -> tuple[date, date]:
    """Return the asked range of days, the last 30 by default; never backwards, never longer than a year."""
    ends_on = min(_day(query.get("to")) or today, today)
    starts_on = _day(query.get("from")) or ends_on - timedelta(days=29)
    starts_on = min(starts_on, ends_on)
    return max(starts_on, ends_on - _LONGEST), ends_on


def page(organization: Organization, filters: Filters, *, cursor: str) -> Page:
    """Return the page that `cursor` names; the first for an empty or an unreadable one."""
    after = _read(cursor)
    shown, following = calls.page(organization.pk, filters.of_calls, after=after, limit=_PAGE_SIZE)
    return Page(
        calls=_rows(shown),
        is_later=after is not None,
        is_partial=following is not None and len(shown) < _PAGE_SIZE,
        next_cursor=_write(following) if following else "",
    )


def latest(organization: Organization, *, limit: int) -> list[dict[str, Any]]:
    """Return the newest calls."""
    shown, _ = calls.page(organization.pk, calls.Filters(), limit=limit)
    return _rows(shown)


def label(code: str) -> str:
    """Return a code of the vendor's as words: "user_hangup" is "User hangup"."""
    return dict(STATUSES).get(code) or code.replace("_", " ").capitalize()


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        return None


def _plain(text: str) -> str:
    """Return what a person may have typed: no NUL, which the database cannot hold, and no longer than an id is."""
    return text.replace("\0", "").strip()[:128]


def _rows(shown: Sequence[calls.ListedCall]) -> list[dict[str, Any]]:
    return [{**call._asdict(), "status_label": label(call.status)} for call in shown]


def _write(cursor: calls.Cursor) -> str:
    return base64.urlsafe_b64encode(f"{cursor.started_at.isoformat()} {cursor.id}".encode()).decode()


def _read(text: str) -> calls.Cursor | None:
    try:
        started_at, _, call = base64.urlsafe_b64decode(text).decode().partition(" ")
        return calls.Cursor(datetime.fromisoformat(started_at), int(call))
    except (ValueError, binascii.Error):
        return None
