"""Glue between the broker and seats: ids in, one verb, safe twice. What is lost, the sweep finds."""

from celery import shared_task

from accounts import clock
from billing_portal.billing import seat_walk
from billing_portal.billing.models import SeatMove


@shared_task
def advance_seat_move(move_id: int) -> None:
    """Take one move as far as it can go."""
    seat_walk.advance(SeatMove.objects.get(pk=move_id), now=clock.now())


@shared_task
def advance_seats() -> None:
    """Begin the months that are due, and advance the moves that wait."""
    seat_walk.advance_all(now=clock.now())
