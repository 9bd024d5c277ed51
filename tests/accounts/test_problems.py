"""Errors as RFC 9457 asks."""

import json
from datetime import UTC, datetime

import pytest
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404
from django.test import Client
from rest_framework import exceptions

from accounts import api_keys, problems
from accounts.problems import Problem


def answer_to(exception: Exception):
    answer = problems.exception_handler(exception, {})
    return answer, json.loads(answer.content)


@pytest.mark.parametrize(
    ("exception", "status", "slug"),
    [
        (exceptions.ParseError("Unexpected end."), 400, "unreadable-body"),
        (exceptions.AuthenticationFailed(), 401, "invalid-api-key"),
        (exceptions.NotAuthenticated(), 401, "missing-api-key"),
        (exceptions.PermissionDenied(), 403, "forbidden"),
        (PermissionDenied(), 403, "forbidden"),
        (exceptions.NotFound(), 404, "not-found"),
        (Http404("No such page."), 404, "not-found"),
        (exceptions.MethodNotAllowed("PUT"), 405, "method-not-allowed"),
        (exceptions.NotAcceptable(), 406, "not-acceptable"),
        (RequestDataTooBig(), 413, "body-too-large"),
        (exceptions.UnsupportedMediaType("text/csv"), 415, "unsupported-media-type"),
        (exceptions.Throttled(), 429, "too-many-requests"),
        (exceptions.APIException(), 500, "error"),
    ],
)
def test_each_known_error_is_a_problem_of_its_own(exception: Exception, status: int, slug: str) -> None:
    answer, document = answer_to(exception)
    assert answer.status_code == document["status"] == status
    assert answer["Content-Type"] == "application/problem+json"
    assert document["type"] == f"urn:problem-type:{slug}"
    assert document["title"]


def test_a_throttled_client_learns_when_to_come_back() -> None:
    answer, _ = answer_to(exceptions.Throttled(wait=7.2))
    assert answer["Retry-After"] == "8"


def test_validation_errors_are_listed_by_field() -> None:
    _, document = answer_to(
        exceptions.ValidationError(
            {
                "name": ["This field is required."],
                "items": [{}, {"duration": ["Too long.", "Not a number."]}],
                "address": {"non_field_errors": ["Incomplete."]},
                "non_field_errors": ["Pick one."],
            }
        )
    )
    assert document["errors"] == [
        {"field": "name", "reason": "This field is required."},
        {"field": "items.1.duration", "reason": "Too long."},
        {"field": "items.1.duration", "reason": "Not a number."},
        {"field": "address", "reason": "Incomplete."},
        {"field": "", "reason": "Pick one."},
    ]


def test_a_problem_carries_its_own_members_and_headers() -> None:
    problem = Problem(409, "conflict", "Known", "Sent before.", headers={"X-Seen": "1"}, call_id="c1")
    answer, document = answer_to(problem)
    assert answer["X-Seen"] == "1"
    assert document == {
        "type": "urn:problem-type:conflict",
        "title": "Known",
        "status": 409,
        "detail": "Sent before.",
        "call_id": "c1",
    }


def test_an_unexpected_error_propagates() -> None:
    assert problems.exception_handler(RuntimeError("ours"), {}) is None


@pytest.mark.django_db
@pytest.mark.urls("tests.accounts.urls")
class TestOverHttp:
    def send(self, client: Client, body: str, method: str = "post", content_type: str = "application/json"):
        _, secret = api_keys.issue(organization=None, name="Test", scopes=["usage:read"], now=datetime.now(UTC))
        headers = {"Authorization": f"Bearer {secret}"}
        return getattr(client, method)("/api/v1/orders", body, content_type=content_type, headers=headers)

    def test_malformed_json_is_a_400_with_the_reason(self, client: Client) -> None:
        answer = self.send(client, '{"name": ')
        assert answer.status_code == 400
        assert answer.json()["type"] == "urn:problem-type:unreadable-body"
        assert "JSON parse error" in answer.json()["detail"]

    def test_wrong_fields_are_named(self, client: Client) -> None:
        answer = self.send(client, '{"quantities": [1, "two"]}')
        assert answer.status_code == 400
        assert [error["field"] for error in answer.json()["errors"]] == ["name", "quantities.1"]

    def test_another_method_and_another_type_are_refused(self, client: Client) -> None:
        assert self.send(client, "", "put").status_code == 405
        assert self.send(client, "a;b", content_type="text/csv").status_code == 415

    def test_an_unknown_address_is_a_problem_under_api_only(self, client: Client) -> None:
        assert client.get("/api/v1/nowhere")["Content-Type"] == "application/problem+json"
        assert client.get("/nowhere")["Content-Type"].startswith("text/html")

    def test_a_fault_of_ours_tells_nothing_about_its_cause(self, client: Client) -> None:
        client.raise_request_exception = False
        answer = client.get("/api/v1/fault")
        assert answer.status_code == 500
        assert answer.json()["type"] == "urn:problem-type:internal-error"
        assert b"secret detail" not in answer.content
