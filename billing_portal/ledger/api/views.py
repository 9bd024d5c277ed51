"""The addresses: read the request, make one call, answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from django.http import HttpResponse
from rest_framework.parsers import JSONParser
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts import clock
from accounts.authentication import HasScope
from accounts.models import ApiKey, Organization
from accounts.problems import Problem
from billing_portal.ledger import authorization, refusals, reservations, standing
from billing_portal.ledger.accounts import AccountMissing
from billing_portal.ledger.api import answers, description, requests
from billing_portal.ledger.journal import ReferenceReused
from billing_portal.ledger.models import Reservation
from usage.api import queries
from usage.api.keyed_views import answer


class _PlatformView(APIView):
    """What the vendor's platform may ask, with a key of its own that may.

    Requests are not counted: one refused for being too many would be a call lost, and counting takes time that a caller
    waits.
    """

    parser_classes = [JSONParser]
    throttle_classes = []

    def get_permissions(self) -> list[BasePermission]:
        return [HasScope(ApiKey.Scope.SPEND_AUTHORIZE)]


class AuthorizationView(_PlatformView):
    """May calls be started."""

    @description.asks("get_authorization")
    def get(self, request: Request, organization: str) -> HttpResponse:
        """Ask whether calls may be started now."""
        query = queries.read(request.query_params, requests.AuthorizationQuery)
        direction, now = requests.direction_of(query.direction), clock.now()
        with _problems():
            found = standing.of_reference(_named(organization), now=now)
        decided = authorization.decide(found, direction=direction)
        if query.call_id and not decided.allowed:
            refusals.record(decided, call_id=query.call_id, direction=direction, now=now)
        return answer(answers.authorized(decided, direction))


class ReservationsView(_PlatformView):
    """Money is held."""

    @description.reserves("reserve")
    def post(self, request: Request, organization: str) -> HttpResponse:
        """Reserve an amount for a call that is about to start."""
        body = requests.reservation_of(request._request)
        with _problems():
            organization_id = _organization_id(organization)
            reservation, is_new = reservations.reserve(organization_id, body.wish(), now=clock.now())
        response = answer(answers.reserved(reservation, organization))
        response.status_code = HTTPStatus.CREATED if is_new else HTTPStatus.OK
        return response


class ReservationView(_PlatformView):
    """One reservation."""

    @description.reads("get_reservation")
    def get(self, request: Request, organization: str, reference: str) -> HttpResponse:
        """Get a reservation."""
        with _problems():
            return _answer(organization, reservations.find(_organization_id(organization), _named(reference)))


class ReleaseView(_PlatformView):
    """The call does not take place."""

    @description.ends("release_reservation")
    def post(self, request: Request, organization: str, reference: str) -> HttpResponse:
        """Release a reservation: its call does not take place. Releasing it again changes nothing."""
        with _problems():
            return _answer(organization, reservations.release(_organization_id(organization), _named(reference)))


class UseView(_PlatformView):
    """The call took place."""

    @description.ends("use_reservation")
    def post(self, request: Request, organization: str, reference: str) -> HttpResponse:
        """Use a reservation whose call is recorded; one that names its call is used by itself."""
        with _problems():
            return _answer(organization, reservations.use(_organization_id(organization), _named(reference)))


def _answer(organization: str, reservation: Reservation) -> HttpResponse:
    return answer(answers.reserved(reservation, organization))


def _organization_id(reference: str) -> int:
    found = Organization.objects.filter(reference=_named(reference)).values_list("pk", flat=True).first()
    if found is None:
        raise standing.OrganizationUnknown(reference)
    return found


def _named(part: str) -> str:
    """Return a part of the address as the database can look for it: no name holds a NUL."""
    return part.replace("\x00", "\ufffd")


@contextmanager
def _problems() -> Iterator[None]:
    """Answer what the ledger refuses; nothing was changed then."""
    try:
        yield
    except (standing.OrganizationUnknown, AccountMissing, reservations.ReservationUnknown):
        raise Problem(HTTPStatus.NOT_FOUND, "not-found", "Nothing was found here") from None
    except reservations.SpendRefused as refused:
        raise _refused(refused) from None
    except reservations.CurrencyMismatch as error:
        errors = [{"field": "currency", "reason": str(error)}]
        raise Problem(HTTPStatus.BAD_REQUEST, "currency-mismatch", "The currency is another", errors=errors) from None
    except ReferenceReused as error:
        detail = f"{error.reference} names a reservation of other content. Take another reference for a new one."
        raise Problem(HTTPStatus.CONFLICT, "reference-reused", "The reference is taken", detail) from None
    except reservations.ReservationExpired as error:
        detail = "What it held is free again. Make another reservation, with another reference."
        state = error.reservation.state
        raise Problem(
            HTTPStatus.CONFLICT, "reservation-expired", "The reservation has expired", detail, state=state
        ) from None
    except reservations.ReservationEnded as error:
        state = error.reservation.state
        title = f"The reservation is {state} already"
        raise Problem(HTTPStatus.CONFLICT, "reservation-ended", title, "It stays as it is.", state=state) from None


def _refused(refused: reservations.SpendRefused) -> Problem:
    decided = refused.refused
    assert decided.reason is not None, "a refusal has its reason"
    return Problem(
        HTTPStatus.PAYMENT_REQUIRED,
        "spend-refused",
        "This may not be spent",
        answers.DETAILS[decided.reason],
        reason=str(decided.reason),
        available_micros=decided.available_micros,
        currency=decided.standing.currency,
    )
