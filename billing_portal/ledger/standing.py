"""What decides whether an organization may spend, as one indexed read finds it."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from django.db import connection

from billing_portal.ledger.accounts import AccountMissing
from billing_portal.ledger.models import SpendLimit
from usage import periods

_READ = """
    SELECT a.organization_id, o.reference, o.status, o.time_zone, a.frozen_at IS NOT NULL,
           a.unpaid_stops_at, a.currency, a.has_card,
           a.arrears_limit_micros, a.accrued_micros,
           (SELECT coalesce(sum(g.remaining_micros), 0)::bigint FROM ledger_grant g
            WHERE g.organization_id = a.organization_id AND g.remaining_micros > 0
                  AND (g.expires_at IS NULL OR g.expires_at > %(now)s)),
           (SELECT coalesce(sum(r.amount_micros), 0)::bigint FROM ledger_reservation r
            WHERE r.organization_id = a.organization_id AND r.state = 'open' AND r.expires_at > statement_timestamp()),
           ARRAY(SELECT s.month FROM ledger_monthspend s
                 WHERE s.organization_id = a.organization_id AND s.month >= %(since)s ORDER BY s.month),
           ARRAY(SELECT s.gross_micros - s.given_back_micros FROM ledger_monthspend s
                 WHERE s.organization_id = a.organization_id AND s.month >= %(since)s ORDER BY s.month),
           l.cap_micros, l.mode, l.outbound_percent, l.inbound_percent, l.finishes_live_calls
    FROM ledger_account a
    JOIN accounts_organization o ON o.id = a.organization_id
    LEFT JOIN LATERAL (SELECT * FROM ledger_spendlimit l WHERE l.organization_id = a.organization_id
                       ORDER BY l.id DESC LIMIT 1) l ON true
    WHERE """


class OrganizationUnknown(LookupError):
    """No organization with books has this reference."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"No organization {reference!r} has books.")
        self.reference = reference


@dataclass(frozen=True, slots=True)
class Standing:
    """An organization's money at one instant, in micros of its currency.

    `spent_micros` is the settled usage of the running billing `month`, less what corrections took back of it, whoever
    pays for it; `held_micros` is what open
    reservations hold. `cap_micros` is None without a cap; the percentages say at which part of a cap that stops usage
    the calls of a direction are refused. `is_overdue` says that an invoice is unpaid for longer than the
    period of grace, which ends at `unpaid_stops_at`.
    """

    at: datetime
    organization_id: int
    reference: str
    status: str
    is_frozen: bool
    unpaid_stops_at: datetime | None
    is_overdue: bool
    currency: str
    has_card: bool
    arrears_limit_micros: int
    accrued_micros: int
    credit_micros: int
    held_micros: int
    month: date
    spent_micros: int
    cap_micros: int | None
    cap_stops: bool
    outbound_percent: int
    inbound_percent: int
    finishes_live_calls: bool


def of(organization_id: int, *, now: datetime) -> Standing:
    """Return how the organization stands at `now`. Raises AccountMissing."""
    found = _read("a.organization_id = %(key)s", organization_id, now)
    if found is None:
        raise AccountMissing(organization_id)
    return found


def of_reference(reference: str, *, now: datetime) -> Standing:
    """Return how the organization that the vendor calls `reference` stands at `now`. Raises OrganizationUnknown."""
    found = _read("o.reference = %(key)s", reference, now)
    if found is None:
        raise OrganizationUnknown(reference)
    return found


def _read(condition: str, key: int | str, now: datetime) -> Standing | None:
    # No zone is more than a day from UTC, so the running month begins at most a day before UTC's.
    since = (now - timedelta(days=1)).date().replace(day=1)
    with connection.cursor() as cursor:
        cursor.execute(_READ + condition, {"key": key, "now": now, "since": since})
        row = cursor.fetchone()
    if row is None:
        return None
    organization_id, reference, status, zone, is_frozen, stops_at, currency, has_card, *amounts = row[:12]
    arrears_limit, accrued, credit, held = amounts
    months, spends, cap, mode, outbound, inbound, finishes = row[12:]
    month = periods.month_of(now, ZoneInfo(zone))
    return Standing(
        at=now,
        organization_id=organization_id,
        reference=reference,
        status=status,
        is_frozen=is_frozen,
        unpaid_stops_at=stops_at,
        is_overdue=stops_at is not None and stops_at <= now,
        currency=currency,
        has_card=has_card,
        arrears_limit_micros=arrears_limit,
        accrued_micros=accrued,
        credit_micros=credit,
        held_micros=held,
        month=month,
        spent_micros=dict(zip(months, spends, strict=True)).get(month, 0),
        cap_micros=cap,
        cap_stops=mode == SpendLimit.Mode.STOP and cap is not None,
        outbound_percent=100 if outbound is None else outbound,
        inbound_percent=100 if inbound is None else inbound,
        finishes_live_calls=finishes is not False,
    )
