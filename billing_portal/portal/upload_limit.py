"""Uploads that are far too large, refused by the length they announce: before anything of them is read or kept.

The check for forged requests reads a form's body, so it has to come before that.
"""

from collections.abc import Callable
from http import HTTPStatus

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import Resolver404, resolve

_FORM_AROUND_IT = 64 * 1024
_TAKE_LOGS = frozenset({"comparison_new"})


def refuse_large_uploads(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Answer 413 with what to do, where a file is taken and the body is longer than any that would be."""

    def middleware(request: HttpRequest) -> HttpResponse:
        length = request.headers.get("Content-Length", "")
        most = int(settings.COMPARISONS_MOST_BYTES)
        if length.isdecimal() and int(length) > most + _FORM_AROUND_IT and _takes_logs(request):
            context = {"most_megabytes": most // 1024**2, "sent_megabytes": int(length) // 1024**2}
            response = render(request, "413.html", context, status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            response["Connection"] = "close"
            return response
        return get_response(request)

    return middleware


def _takes_logs(request: HttpRequest) -> bool:
    try:
        return resolve(request.path_info).url_name in _TAKE_LOGS
    except Resolver404:
        return False
