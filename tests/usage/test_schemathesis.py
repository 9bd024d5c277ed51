"""The API against its own description: what schemathesis makes up, valid and invalid, is answered as described."""

import json

import pytest
import schemathesis
from django.conf import settings as django_settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from accounts import api_keys
from accounts.models import ApiKey
from billing_portal.ledger import accounts
from tests.conftest import NOW

pytestmark = pytest.mark.django_db
EXAMPLES, MANY_EXAMPLES = 15, 500
WRITES = {
    "record_calls",
    "record_conversation_events",
    "record_events",
    "record_lago_batch",
    "import_calls",
    "get_import",
    "get_import_refusals",
}
OF_THE_PLATFORM = {
    "get_authorization",
    "reserve",
    "get_reservation",
    "release_reservation",
    "use_reservation",
}
# They take no more than two names in the address, which may be anything; or a file, which is judged later.
# A file that is one cannot be made up from a schema; tests/usage/test_imports.py sends real ones.
TAKES_A_FILE = {"import_calls"}
# Its parameters depend on each other, which a description cannot say: made up ones are mostly refused.
PARAMETERS_BELONG_TOGETHER = {"get_usage_changes"}
NOTHING_TO_GET_WRONG = {"get_reservation", "release_reservation", "use_reservation", "import_calls"}
OF_BILLING = {"get_amount_due", "get_receipt", "get_receipt_file"}
OPERATIONS = [
    "list_calls",
    "export_calls_csv",
    "export_calls_jsonl",
    "get_call",
    "get_completeness",
    "get_conversation",
    "get_conversation_billing",
    "get_usage",
    "get_usage_changes",
    "prove_call",
    "trace_call",
    "retell_webhook",
    *sorted(OF_BILLING),
    *sorted(WRITES),
    *sorted(OF_THE_PLATFORM),
]


@pytest.fixture
def application():
    """Return the portal for a client in this process; the test's connection stays open, as with Django's own client."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield WSGIHandler()
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def description(client):
    return client.get("/api/v1/schema").json()


def test_the_description_is_openapi_3_1_and_names_every_operation(description):
    assert description["openapi"].startswith("3.1")
    found = {operation["operationId"] for path in description["paths"].values() for operation in path.values()}
    assert sorted(found) == sorted(OPERATIONS)


def test_every_reference_of_the_description_resolves(description):
    names = {f"#/components/schemas/{name}" for name in description["components"]["schemas"]}
    references = json.dumps(description).split('"$ref": "')[1:]
    assert {reference.partition('"')[0] for reference in references} <= names


def scope_of(operation_id):
    if operation_id in OF_THE_PLATFORM:
        return ApiKey.Scope.SPEND_AUTHORIZE
    if operation_id in OF_BILLING:
        return ApiKey.Scope.BILLING_READ
    return ApiKey.Scope.CALLS_WRITE if operation_id in WRITES else ApiKey.Scope.USAGE_READ


def _let_headers_fit(case):
    """Leave attributes of an event in headers only to a body that is its data, which a description cannot say."""
    if case.headers and isinstance(case.body, list):
        for name in [name for name in case.headers if name.lower().startswith("ce-")]:
            del case.headers[name]


def _let_filters_fit(case):
    """Ask for a key of metadata and its value together or for neither, which a description cannot say."""
    both = {"metadata_key", "metadata_value"}
    if case.query and not all(case.query.get(name) for name in both):
        for name in both & {*case.query}:
            del case.query[name]


@pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(MANY_EXAMPLES, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("operation_id", "mode"),
    [
        *(
            (operation, GenerationMode.POSITIVE)
            for operation in OPERATIONS
            if operation not in TAKES_A_FILE | PARAMETERS_BELONG_TOGETHER
        ),
        *((operation, GenerationMode.NEGATIVE) for operation in OPERATIONS if operation not in NOTHING_TO_GET_WRONG),
    ],
)
def test_requests_made_up_from_the_description_are_answered_as_described(
    operation_id, mode, examples, description, application, acme, monkeypatch, tmp_path
):
    monkeypatch.setattr("accounts.clock.now", lambda: NOW)
    monkeypatch.setattr(django_settings, "IMPORTS_DIR", tmp_path)
    accounts.open(organization=acme, now=NOW)
    scope = scope_of(operation_id)
    owner = None if scope in ApiKey.VENDOR_SCOPES else acme
    _, secret = api_keys.issue(organization=owner, name="k", scopes=[scope], now=NOW)
    # Every request carries the key: one made invalid by leaving it out would be valid after all.
    for path in description["paths"].values():
        for described in path.values():
            described.pop("security", None)
    # Half of the made up requests ask for an organization that there is.
    for path in description["paths"].values():
        for described in path.values():
            for parameter in described.get("parameters", ()):
                if parameter["name"] == "organization" and parameter["in"] == "path":
                    parameter["schema"] = {"anyOf": [{"const": "acme"}, {"type": "string"}]}
    schema = schemathesis.openapi.from_dict(description)
    schema.app = application
    operation = next(
        found.ok() for found in schema.get_all_operations() if found.ok().definition.raw["operationId"] == operation_id
    )

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        # Two requests with one key must not be told apart by chance.
        if case.headers:
            case.headers.pop("Idempotency-Key", None)
        _let_headers_fit(case)
        if mode is GenerationMode.POSITIVE:
            _let_filters_fit(case)
        # What is made up names no organization: asked for each item, the answer is 200 and says so of each.
        case.call_and_validate(headers={"Authorization": f"Bearer {secret}", "Prefer": "return=representation"})

    ask()
