"""Judge: Stripe's published specification, read here a second time and without the sandbox's own reading of it."""

import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jsonschema_rs
import pytest
import requests

from billing_portal.sandbox import specification
from tests.stripe import scenario


def converted(node: Any) -> Any:
    """Stripe's OpenAPI 3.0 as JSON Schema: null where nullable, open enumerations open, list patterns dropped."""
    if isinstance(node, list):
        return [converted(item) for item in node]
    if not isinstance(node, dict):
        return node
    dropped = {"nullable", "pattern"} | {key for key in node if key.startswith("x-")}
    if node.get("x-stripeBypassValidation"):
        dropped.add("enum")
    result = {
        key: {name: converted(item) for name, item in value.items()} if key == "properties" else converted(value)
        for key, value in node.items()
        if key not in dropped
    }
    return {"anyOf": [result, {"type": "null"}]} if node.get("nullable") is True else result


def as_form(node: dict[str, Any]) -> dict[str, Any]:
    """A request's schema as JSON Schema over its decoded form: all values are text, lists are hashes by index."""
    if "anyOf" in node:
        return {"anyOf": [as_form(branch) for branch in node["anyOf"]]}
    kind, extra = node.get("type"), node.get("additionalProperties")
    if kind == "array":
        return {
            "type": "object",
            "patternProperties": {r"^\d*$": as_form(node["items"])},
            "additionalProperties": False,
        }
    if kind == "object":
        members = {name: as_form(inner) for name, inner in node.get("properties", {}).items()}
        others = as_form(extra) if isinstance(extra, dict) else False
        required = node.get("required", [])
        return {"type": "object", "properties": members, "required": required, "additionalProperties": others}
    text: dict[str, Any] = {"type": "string", **TEXTS.get(kind or "string", {})}
    if "enum" in node and not node.get("x-stripeBypassValidation"):
        text["enum"] = node["enum"]
    return text


TEXTS: dict[str, dict[str, Any]] = {
    "boolean": {"enum": ["true", "false"]},
    "integer": {"pattern": r"^-?\d+$"},
    "number": {"pattern": r"^-?\d+(\.\d+)?$"},
}


def decoded(form: str) -> dict[str, Any]:
    """``a[b][0]=1`` as ``{"a": {"b": {"0": "1"}}}``."""
    result: dict[str, Any] = {}
    for name, value in parse_qsl(form, keep_blank_values=True):
        *outer, last = re.findall(r"[^\[\]]+", name)
        place = result
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = value
    return result


class Judge:
    """Validators by schema and by operation."""

    def __init__(self) -> None:
        self.specification = specification.load()
        schemas = {name: converted(schema) for name, schema in self.specification.schemas.items()}
        self.components = {"components": {"schemas": schemas}}
        self._validators: dict[str, Any] = {}

    def of_object(self, name: str) -> Any:
        return self._validator(f"object {name}", {"$ref": f"#/components/schemas/{name}"})

    def of_answer(self, method: str, path: str) -> Any:
        found = self.specification.find(method, path)
        assert found is not None, f"{method} {path} is not Stripe's"
        return self._validator(f"{method} {found[0].path}", converted(found[0].answer))

    def of_request(self, method: str, path: str) -> Any:
        found = self.specification.find(method, path)
        assert found is not None, f"{method} {path} is not Stripe's"
        return self._validator(f"request {method} {found[0].path}", as_form(found[0].request_schema))

    def _validator(self, key: str, schema: dict[str, Any]) -> Any:
        if key not in self._validators:
            self._validators[key] = jsonschema_rs.Draft202012Validator({**schema, **self.components})
        return self._validators[key]


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


@pytest.fixture(scope="module")
def played(stripe_sandbox_process) -> tuple[list[requests.Response], dict[str, Any]]:
    """Every answer the scenario got, and what the sandbox held in the end."""
    answers: list[requests.Response] = []

    def keep(response: requests.Response, **_details: Any) -> None:
        answers.append(response)

    stripe_sandbox_process.reset()
    stripe_sandbox_process.session.hooks["response"].append(keep)
    scenario.play(stripe_sandbox_process)
    stripe_sandbox_process.session.hooks["response"].remove(keep)
    return answers, stripe_sandbox_process.dump()


def complaints(validator: Any, value: Any, about: str) -> list[str]:
    return [f"{about} {list(e.instance_path)}: {e.message[:300]}" for e in validator.iter_errors(value)]


def test_every_answer_is_what_its_operation_promises(judge, played):
    found = []
    for answer in played[0]:
        method, path = answer.request.method, urlsplit(answer.request.url).path
        validator = judge.of_answer(method, path) if answer.ok else judge.of_object("error")
        found += complaints(validator, answer.json(), f"{method} {path}")
    assert len(played[0]) > 50
    assert found == []


def test_every_request_is_what_its_operation_takes(judge, played):
    found = []
    for answer in played[0]:
        request = answer.request
        url = urlsplit(request.url)
        body = request.body.decode() if isinstance(request.body, bytes) else request.body or ""
        validator = judge.of_request(request.method, url.path)
        found += complaints(validator, decoded(body or url.query), f"{request.method} {url.path}")
    assert found == []


@pytest.mark.parametrize("form", ["nonsense=1", "address[planet]=earth", "balance=many", "tax_exempt=perhaps"])
def test_the_judge_refuses_what_stripe_does_not_describe(judge, form):
    assert not judge.of_request("POST", "/v1/customers").is_valid(decoded(form))


def test_every_object_is_what_it_says_it_is(judge, played):
    found = []
    for kind, objects in played[1]["objects"].items():
        for shown in objects:
            name = f"deleted_{kind}" if shown.get("deleted") else kind
            found += complaints(judge.of_object(name), shown, kind)
    assert found == []


def test_every_event_and_its_snapshot_is_valid(judge, played):
    found = []
    for event in played[1]["events"]:
        shown = event["data"]["object"]
        found += complaints(judge.of_object("event"), event, event["type"])
        found += complaints(judge.of_object(shown["object"]), shown, event["type"])
    assert {event["api_version"] for event in played[1]["events"]} == {judge.specification.version}
    assert found == []


def test_previous_attributes_are_fields_of_the_object(played):
    for event in played[1]["events"]:
        if event["type"].endswith(".updated"):
            assert set(event["data"]["previous_attributes"]) <= set(event["data"]["object"]), event["type"]
