"""This package's part of the API's description."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from drf_spectacular.utils import OpenApiResponse, extend_schema

from accounts import problems
from billing_portal.ledger.api import answers, requests
from usage.api import description as api
from usage.api.answers import ProblemDocument

View = TypeVar("View", bound=Callable[..., Any])

api.join(answers.AuthorizationAnswer, answers.ReservationAnswer, requests.ReservationBody)

_PROBLEMS = {
    400: "The body or a parameter could not be read, or the currency is another; nothing is held.",
    401: "The API key is missing, unknown, revoked or expired.",
    402: "Less may be spent than was to be reserved; nothing is held. `reason` and `available_micros` say more.",
    403: "The API key lacks the scope.",
    404: "There is no such organization, or no such reservation.",
    406: "The answer comes as JSON only.",
    409: "The reference names a reservation of other content, or one that has ended otherwise; nothing was changed.",
    411: "The body's length is missing, and the server in front cannot do without; nothing is held.",
    413: "The body is larger than 10 MB, as it came or unpacked; nothing is held.",
    415: "The body is of another type or encoding than listed; nothing is held.",
    503: "The database did not answer in time. `Retry-After` says when to come again; that is safe.",
}
_RESERVES = """
Holds an upper bound of what a call will cost until the call is recorded (`call_id`), the reservation is released, or
its time is over. However many are asked for at once, what is spent and held together never exceeds the cap, the credit,
or what may be owed.

The reference makes it safe to repeat: the same again answers with the same reservation, as it is by then.
"""


def asks(operation: str) -> Callable[[View], View]:
    """Describe the question whether calls may be started."""
    return _described(
        operation_id=operation,
        parameters=api.parameters(requests.AuthorizationQuery),
        responses={200: _answer(answers.AuthorizationAnswer), **_problems(400, 401, 403, 404, 406, 503)},
    )


def reserves(operation: str) -> Callable[[View], View]:
    """Describe the making of a reservation."""
    return _described(
        operation_id=operation,
        description=_RESERVES.strip(),
        request={"application/json": api.reference(requests.ReservationBody)},
        responses={
            200: _answer(answers.ReservationAnswer, "The reference was known already."),
            201: _answer(answers.ReservationAnswer, "The amount is held."),
            **_problems(400, 401, 402, 403, 404, 406, 409, 411, 413, 415, 503),
        },
    )


def reads(operation: str) -> Callable[[View], View]:
    """Describe the reading of one reservation."""
    return _described(
        operation_id=operation,
        responses={200: _answer(answers.ReservationAnswer), **_problems(401, 403, 404, 406, 503)},
    )


def ends(operation: str) -> Callable[[View], View]:
    """Describe an end of a reservation; it takes no body."""
    return _described(
        operation_id=operation,
        request=None,
        responses={200: _answer(answers.ReservationAnswer), **_problems(401, 403, 404, 406, 409, 503)},
    )


def _described(**options: Any) -> Callable[[View], View]:
    decorate: Callable[[View], View] = extend_schema(tags=["authorization"], **options)
    return decorate


def _answer(kind: type[msgspec.Struct], description: str = "") -> OpenApiResponse:
    return OpenApiResponse(api.reference(kind), description=description)


def _problems(*statuses: int) -> dict[tuple[int, str], OpenApiResponse]:
    document = api.reference(ProblemDocument)
    return {
        (status, problems.CONTENT_TYPE): OpenApiResponse(document, description=_PROBLEMS[status]) for status in statuses
    }
