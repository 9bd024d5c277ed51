"""The API's description in OpenAPI 3.1, made of the very types that are read and sent."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema

from accounts import problems
from usage.api import answers, queries
from usage.call_objects import CallItem
from usage.ingestion import MAX_ITEMS

View = TypeVar("View", bound=Callable[..., Any])
_REFERENCES = "#/components/schemas/{name}"
_ANSWERS = (
    answers.Recorded,
    answers.CallPage,
    answers.CallRecord,
    answers.UsageReport,
    answers.ProblemDocument,
)
# Decimals are written as JSON numbers here; msgspec's own schema knows them as texts only.
_NUMBER = {"type": ["number", "null"], "minimum": 0}
_INSTANT = {
    "anyOf": [
        {"type": "integer", "description": "Milliseconds since 1970."},
        {"type": "string", "format": "date-time"},
    ],
}
_PROBLEMS = {
    400: "The body or a parameter could not be read; nothing was recorded.",
    401: "The API key is missing, unknown, revoked or expired.",
    403: "The API key lacks the scope.",
    404: "There is no such call or organization, or the key may not know of it.",
    406: "The answer comes as JSON only.",
    413: "The body is larger than 10 MB; nothing was recorded.",
    415: "The body is not application/json; nothing was recorded.",
    422: f"The body holds more than {MAX_ITEMS:,} calls; nothing was recorded.",
}
_BODY_DESCRIPTION = f"""
An array of at most {MAX_ITEMS:,} call objects in Retell's published shape, or an object with it as `calls`; 10 MB at
most.

Every item stands for itself: it is **recorded**, or it is a **duplicate** (the same content is known under its id), a
**conflict** (other content is known under its id, which stays) or **rejected**, with the field and the reason. The
answer is 200 also when items were rejected: what became of each stands in `items`, by `index`. To send a request again
is always safe. Only a body whose JSON is broken, or that is too large, is refused as a whole.

A call with a product that no price covers is recorded with `rated: false`, and rated when its price arrives. Fields
that are not listed are kept as they come.
"""


class Generator(SchemaGenerator):
    """Adds what drf-spectacular cannot know: the schemas, and that a body must be there."""

    def get_schema(self, request: Any = None, public: bool = False) -> dict[str, Any]:
        result: dict[str, Any] = super().get_schema(request, public)  # type: ignore[no-untyped-call]
        result["components"]["schemas"] = schemas()
        for path in result["paths"].values():
            for operation in path.values():
                if "requestBody" in operation:
                    operation["requestBody"]["required"] = True
        return result


def schemas() -> dict[str, Any]:
    """Return all schemas by name."""
    components = msgspec.json.schema_components([*_ANSWERS, CallItem], ref_template=_REFERENCES)[1]
    call, tokens = components["CallItem"]["properties"], components["TokenUsage"]["properties"]
    call["start_timestamp"] = _INSTANT
    call["end_timestamp"] = {"anyOf": [*_INSTANT["anyOf"], {"type": "null"}], "default": None}
    tokens["average"] = tokens["num_requests"] = _NUMBER
    return components


def reference(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the reference to the schema of a type."""
    return {"$ref": _REFERENCES.format(name=kind.__name__)}


def reads(
    operation: str, *, query: type[queries.OrganizationQuery], answer: type[msgspec.Struct]
) -> Callable[[View], View]:
    """Describe a GET."""
    return _described(
        operation_id=operation,
        parameters=_parameters(query),
        responses={200: OpenApiResponse(reference(answer)), **_problems(400, 401, 403, 404, 406)},
    )


def records(operation: str) -> Callable[[View], View]:
    """Describe the POST of calls. Any item is accepted, since a wrong one is answered for itself."""
    item = {"anyOf": [reference(CallItem), {"description": "Anything else is answered as rejected."}]}
    array = {"type": "array", "maxItems": MAX_ITEMS, "items": item}
    envelope = {
        "type": "object",
        "properties": {"calls": array},
        "required": ["calls"],
        "additionalProperties": False,
    }
    return _described(
        operation_id=operation,
        description=_BODY_DESCRIPTION.strip(),
        request={"application/json": {"oneOf": [array, envelope]}},
        responses={
            200: OpenApiResponse(reference(answers.Recorded), description="What became of each item."),
            **_problems(400, 401, 403, 406, 413, 415, 422),
        },
    )


def _described(**options: Any) -> Callable[[View], View]:
    decorate: Callable[[View], View] = extend_schema(tags=["usage"], **options)
    return decorate


def _parameters(query: type[queries.OrganizationQuery]) -> list[OpenApiParameter]:
    schema = msgspec.json.schema(query)["$defs"][query.__name__]
    parameters = []
    for name, property_schema in schema["properties"].items():
        described = dict(property_schema)
        if described.get("default") == "":
            del described["default"]
        description = described.pop("description", "")
        parameters.append(OpenApiParameter(name, described, description=description))
    return parameters


def _problems(*statuses: int) -> dict[tuple[int, str], OpenApiResponse]:
    document = reference(answers.ProblemDocument)
    return {
        (status, problems.CONTENT_TYPE): OpenApiResponse(document, description=_PROBLEMS[status]) for status in statuses
    }
