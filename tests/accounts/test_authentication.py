"""What the API answers to keys, good and bad."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from accounts import api_keys
from accounts.models import ApiKey, Organization

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.accounts.urls")]
URL = "/api/v1/orders"
BODY = json.dumps({"name": "one", "quantities": [1]})


def issue(organization: Organization | None, *scopes: str, **fields: object) -> tuple[ApiKey, str]:
    return api_keys.issue(
        organization=organization,
        name="Test",
        scopes=list(scopes or ["usage:read"]),
        now=datetime.now(UTC),
        **fields,
    )


def post(client: Client, secret: str | None, scheme: str = "Bearer", body: str = BODY):
    headers = {} if secret is None else {"Authorization": f"{scheme} {secret}"}
    return client.post(URL, body, content_type="application/json", headers=headers)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_key_opens_the_api_for_its_organization(client: Client, acme: Organization, scheme: str) -> None:
    _, secret = issue(acme)
    answer = post(client, secret, scheme)
    assert answer.status_code == 200
    assert answer.json() == {"organization": "acme"}


def test_a_vendor_key_stands_for_no_organization(client: Client) -> None:
    _, secret = issue(None, "usage:read", "calls:write")
    assert post(client, secret).json() == {"organization": None}


@pytest.mark.parametrize(("secret", "scheme"), [(None, ""), ("x", "Basic"), ("x", "Token")])
def test_a_request_without_a_key_is_challenged(client: Client, secret: str | None, scheme: str) -> None:
    answer = post(client, secret, scheme)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == 'Bearer realm="api"'
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:problem-type:missing-api-key"


def test_wrong_revoked_and_expired_keys_are_answered_alike(client: Client, acme: Organization) -> None:
    revoked, revoked_secret = issue(acme)
    assert post(client, revoked_secret).status_code == 200
    api_keys.revoke(revoked, now=datetime.now(UTC))
    _, expired_secret = issue(acme, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    answers = [
        post(client, secret)
        for secret in [revoked_secret, expired_secret, ApiKey.new_secret(vendor=False), "", "ü", "a b"]
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].json()["type"] == "urn:problem-type:invalid-api-key"


def test_a_key_without_the_scope_is_told_which_one_it_lacks(client: Client, acme: Organization) -> None:
    _, secret = issue(acme, "billing:read")
    answer = post(client, secret)
    assert answer.status_code == 403
    assert answer.json() == {
        "type": "urn:problem-type:missing-scope",
        "title": "The API key may not do this",
        "status": 403,
        "detail": "This needs a key with the scope usage:read.",
        "scope": "usage:read",
    }


def test_a_session_does_not_open_the_api(client: Client, alice: object) -> None:
    client.force_login(alice)
    assert post(client, None).status_code == 401
