"""Errors of the API, as problem details (RFC 9457, `application/problem+json`).

`type` is a URN that is the same in every deployment: programs switch on it. People read `title` and `detail`.
"""

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import psycopg
import structlog
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.views import defaults
from rest_framework import exceptions

CONTENT_TYPE = "application/problem+json"
_API_PREFIX = "/api/"
_RETRY_SECONDS = 5

log = structlog.get_logger(__name__)

# DRF's own errors: the slug and the title of each. A subclass stands before its base.
_KNOWN: list[tuple[type[exceptions.APIException], str, str]] = [
    (exceptions.ParseError, "unreadable-body", "The body could not be read"),
    (exceptions.NotAuthenticated, "missing-api-key", "An API key is required"),
    (exceptions.AuthenticationFailed, "invalid-api-key", "The API key is not accepted"),
    (exceptions.PermissionDenied, "forbidden", "The API key may not do this"),
    (exceptions.NotFound, "not-found", "Nothing was found here"),
    (exceptions.MethodNotAllowed, "method-not-allowed", "This address does not take that method"),
    (exceptions.NotAcceptable, "not-acceptable", "No such representation"),
    (exceptions.UnsupportedMediaType, "unsupported-media-type", "The body's type is not supported"),
    (exceptions.Throttled, "too-many-requests", "Too many requests"),
]


class Problem(Exception):
    """An error to be answered as it stands. `extra` members are added to the document."""

    def __init__(
        self,
        status: int,
        slug: str,
        title: str,
        detail: str = "",
        *,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(title)
        self.status = int(status)
        self.slug = slug
        self.title = title
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra

    def document(self) -> dict[str, Any]:
        """Return the members of the problem document."""
        document: dict[str, Any] = {
            "type": f"urn:problem-type:{self.slug}",
            "title": self.title,
            "status": self.status,
        }
        if self.detail:
            document["detail"] = self.detail
        return document | self.extra


def response(problem: Problem) -> HttpResponse:
    """Return the answer for `problem`; for plain views as for the API's."""
    body = json.dumps(problem.document(), ensure_ascii=False)
    return HttpResponse(body, status=problem.status, content_type=CONTENT_TYPE, headers=problem.headers)


def exception_handler(exception: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """Answer the errors a client can understand; None lets the others propagate, as DRF asks."""
    problem = _problem_of(exception)
    return None if problem is None else response(problem)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer an unknown address (`handler404`): a problem under /api/, the page elsewhere."""
    if request.path.startswith(_API_PREFIX):
        return response(_problem_of(exceptions.NotFound()))  # type: ignore[arg-type]
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer a fault of ours (`handler500`) without a word about its cause."""
    if request.path.startswith(_API_PREFIX):
        detail = "Nothing is wrong with the request as far as we know. It is safe to send it again."
        return response(Problem(500, "internal-error", "The server failed", detail))
    return defaults.server_error(request)


def _problem_of(exception: Exception) -> Problem | None:
    if isinstance(exception, Problem):
        return exception
    if isinstance(exception, Http404):
        exception = exceptions.NotFound()
    elif isinstance(exception, PermissionDenied):
        exception = exceptions.PermissionDenied()
    elif isinstance(exception, OperationalError | InterfaceError) or _is_read_only(exception):
        return _database_away(exception)
    elif isinstance(exception, RequestDataTooBig):
        return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", "The body is too large")
    if isinstance(exception, exceptions.ValidationError):
        errors = list(_flatten(exception.detail))
        return Problem(exception.status_code, "invalid", "Some fields are not accepted", errors=errors)
    if not isinstance(exception, exceptions.APIException):
        return None
    slug, title = next(
        ((slug, title) for kind, slug, title in _KNOWN if isinstance(exception, kind)),
        (exception.default_code, HTTPStatus(exception.status_code).phrase),
    )
    detail = str(exception.detail)
    return Problem(exception.status_code, slug, title, detail, headers=_headers_of(exception))


def _is_read_only(exception: Exception) -> bool:
    """Say whether the database takes no writes, as a primary does for a while when another takes its place."""
    return isinstance(exception.__cause__, psycopg.errors.ReadOnlySqlTransaction)


def _database_away(exception: Exception) -> Problem:
    """Return the problem of a database that is down, full, read-only or slow: no 2xx is answered before the commit."""
    cause = type(exception.__cause__ or exception).__name__
    log.error("database did not answer", error=cause)
    detail = (
        "The database did not answer in time. The request had no effect; or, if the connection was lost at its very "
        "end, its whole effect. It is safe to send it again."
    )
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "database-unavailable",
        "The server is too busy",
        detail,
        headers={"Retry-After": str(_RETRY_SECONDS)},
    )


def _headers_of(exception: exceptions.APIException) -> dict[str, str]:
    headers = {}
    if challenge := getattr(exception, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if wait := getattr(exception, "wait", None):
        headers["Retry-After"] = str(int(wait))
    return headers


def _flatten(detail: Any, field: str = "") -> Iterator[dict[str, str]]:
    """Yield one {field, reason} per message; the field of a nested error is its dotted path."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            own = field if name == "non_field_errors" else f"{field}.{name}".lstrip(".")
            yield from _flatten(inner, own)
    elif isinstance(detail, list):
        for position, inner in enumerate(detail):
            nested = isinstance(inner, dict | list)
            yield from _flatten(inner, f"{field}.{position}".lstrip(".") if nested else field)
    else:
        yield {"field": field, "reason": str(detail)}
