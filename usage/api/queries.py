"""What may stand behind the question mark, and what it means. An unknown parameter is refused, never ignored."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from http import HTTPStatus
from typing import Annotated, Literal, TypeVar

import msgspec
from django.http import QueryDict
from msgspec import Meta

from accounts.problems import Problem
from usage import calls, instants, periods

MAX_LIMIT = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Days outside of these hold no calls, and their ends in all time zones are still dates.
_FIRST_DAY, _LAST_DAY = date(2000, 1, 1), date(9998, 12, 31)

_NO_NUL = r"^[^\x00]+$"
_DAY = {"format": "date"}
_DAY_OR_INSTANT = {"anyOf": [{"format": "date"}, {"format": "date-time"}]}
Reference = Annotated[
    str,
    Meta(
        pattern=_NO_NUL,
        max_length=64,
        description="The organization, by the vendor's reference. Required with a key of the vendor; an organization's "
        "key reads its own.",
    ),
]
Text64 = Annotated[str, Meta(pattern=_NO_NUL, max_length=64)]
Text128 = Annotated[str, Meta(pattern=_NO_NUL, max_length=128)]


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing may be asked for."""


class OrganizationQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Whose data is read."""

    organization: Reference = ""


class FilterQuery(OrganizationQuery, rename={"from_": "from"}):
    """Which calls."""

    from_: Annotated[
        str,
        Meta(
            description="Only calls that started then or later: a day in the organization's time zone, or an instant.",
            extra_json_schema=_DAY_OR_INSTANT,
        ),
    ] = ""
    to: Annotated[
        str,
        Meta(
            description="Only calls that started earlier than this instant, or until the end of this day.",
            extra_json_schema=_DAY_OR_INSTANT,
        ),
    ] = ""
    product: Annotated[Text64, Meta(description="Only calls that used this product.")] = ""
    agent_id: Annotated[Text128, Meta(description="Only calls of this agent.")] = ""
    status: Annotated[Text64, Meta(description="Only calls of this status, as in the call object.")] = ""
    direction: Annotated[Text64, Meta(description="Only calls of this direction: inbound or outbound.")] = ""
    call_id: Annotated[Text128, Meta(description="Only calls whose id begins so.")] = ""
    metadata_key: Annotated[
        Text128,
        Meta(description="Only calls whose metadata has `metadata_value` under this key; both are named, or neither."),
    ] = ""
    metadata_value: Annotated[Text128, Meta(description="The value under `metadata_key`, as text.")] = ""


class CallsQuery(FilterQuery):
    """Which calls, and how many of them."""

    order: Annotated[
        Literal["newest", "oldest"], Meta(description="Whether the latest start comes first, or the earliest.")
    ] = "newest"
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="How many calls a page holds.")] = 100
    cursor: Annotated[
        str, Meta(pattern="^[0-9]{1,16}-[0-9]{1,18}$", description="The place of a page, as `next` has it.")
    ] = ""


class UsageQuery(OrganizationQuery, rename={"from_": "from"}):
    """Which days."""

    from_: Annotated[
        str,
        Meta(
            description="The first day, in the organization's time zone. By default that of the month.",
            extra_json_schema=_DAY,
        ),
    ] = ""
    to: Annotated[str, Meta(description="The last day, included. By default today.", extra_json_schema=_DAY)] = ""


Query = TypeVar("Query", bound=msgspec.Struct)


def read(parameters: QueryDict, kind: type[Query]) -> Query:
    """Return the parameters typed. Raises Problem for one that is unknown, repeated or not as it must be."""
    for name, values in parameters.lists():
        if len(values) > 1:
            raise invalid(name, "The parameter may stand only once.")
    # Left out and empty are not the same: an empty filter is most likely a mistake of the program.
    for name, value in parameters.items():
        if value == "":
            raise invalid(name, "The parameter is empty.")
    try:
        return msgspec.convert(parameters.dict(), kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None


def filters_of(query: FilterQuery, zone: tzinfo) -> calls.Filters:
    """Return what the list is filtered by. Raises Problem."""
    for name, other in (("metadata_key", query.metadata_value), ("metadata_value", query.metadata_key)):
        if other and not getattr(query, name):
            raise invalid(name, "Name both the key and the value.")
    return calls.Filters(
        starts_at=_instant("from", query.from_, zone, periods.starts_at),
        ends_at=_instant("to", query.to, zone, _ends_at),
        product=query.product,
        agent_id=query.agent_id,
        status=query.status,
        direction=query.direction,
        call_id_prefix=query.call_id,
        metadata_key=query.metadata_key,
        metadata_value=query.metadata_value,
    )


def days_of(query: UsageQuery, *, today: date) -> tuple[date, date]:
    """Return the first and the last day. Raises Problem."""
    first = day("from", query.from_) if query.from_ else today.replace(day=1)
    last = day("to", query.to) if query.to else today
    return first, last


def day(field: str, text: str) -> date:
    """Return the day, or the nearest that can hold calls. Raises Problem."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        raise invalid(field, "Expected a day, as in 2026-10-15.")
    try:
        return min(max(date.fromisoformat(text), _FIRST_DAY), _LAST_DAY)
    except ValueError:
        raise invalid(field, f"{text} is no day.") from None


def span_of(days: tuple[date, date], zone: tzinfo) -> tuple[datetime, datetime]:
    """Return the half-open span of days, the last one included."""
    return periods.starts_at(days[0], zone), _ends_at(days[1], zone)


def cursor_of(text: str) -> calls.Cursor | None:
    """Return the cursor that `text_of` wrote; None for no text."""
    if not text:
        return None
    microseconds, _, call_id = text.partition("-")
    return calls.Cursor(_EPOCH + timedelta(microseconds=int(microseconds)), int(call_id))


def text_of(cursor: calls.Cursor) -> str:
    """Return a cursor as a parameter: microseconds since 1970, and the row."""
    return f"{(cursor.started_at - _EPOCH) // timedelta(microseconds=1)}-{cursor.id}"


def invalid(field: str, reason: str) -> Problem:
    """Return the problem of one parameter."""
    errors = [{"field": field, "reason": reason}]
    return Problem(HTTPStatus.BAD_REQUEST, "invalid", "Some fields are not accepted", errors=errors)


def _invalid(error: msgspec.ValidationError) -> Problem:
    reason, _, path = str(error).partition(" - at `$")
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", reason, re.DOTALL)
    if unknown:
        return invalid(unknown[1], "There is no such parameter.")
    return invalid(path.strip(".`"), f"{reason}.")


def _instant(field: str, text: str, zone: tzinfo, of_day: Callable[[date, tzinfo], datetime]) -> datetime | None:
    if not text:
        return None
    if len(text) <= len("2026-10-15"):
        return of_day(day(field, text), zone)
    try:
        return instants.parse(text)
    except instants.TooEarly:
        return instants.EARLIEST
    except ValueError as error:
        raise invalid(field, str(error)) from None


def _ends_at(last: date, zone: tzinfo) -> datetime:
    return periods.starts_at(last + timedelta(days=1), zone)
