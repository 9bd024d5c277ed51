"""Neutral objects and validators, both made from Stripe's schemas.

Two readings make validation stricter than the published text: an object may carry only the fields Stripe
describes, and an expandable field is checked where the expanded object itself is built. Enumerations that
Stripe marks as open (``x-stripeBypassValidation``) and the ``pattern`` of list addresses are not held.
"""

import functools
from collections.abc import Iterable
from typing import Any

import jsonschema_rs

from .errors import InvalidAnswer
from .specification import Specification

REFERENCE = "#/components/schemas/"
REFERENCE_OBJECT = {"type": "object", "required": ["object"]}


class Schemas:
    """What the specification says about objects."""

    def __init__(self, specification: Specification) -> None:
        self.specification = specification
        self.named = specification.schemas
        self._validators: dict[str, Any] = {}
        self.by_object = dict(self._objects())

    def _objects(self) -> Iterable[tuple[tuple[str, bool], str]]:
        """Schema names by the value of ``object`` and whether the object is deleted."""
        for name, schema in self.named.items():
            properties = schema.get("properties", {})
            enum = properties.get("object", {}).get("enum")
            if enum and len(enum) == 1 and enum[0] != "list":
                key = (enum[0], "deleted" in schema.get("required", ()))
                if name == enum[0] or key[1]:
                    yield key, name

    def resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            schema = self.named[schema["$ref"].removeprefix(REFERENCE)]
        return schema

    def properties(self, kind: str) -> dict[str, Any]:
        properties: dict[str, Any] = self.named[kind].get("properties", {})
        return properties

    # Neutral objects

    def neutral(self, kind: str) -> dict[str, Any]:
        """The emptiest valid object of a kind: null where allowed, otherwise zero, false or empty."""
        blank = self._blank_object(self.named[kind], with_nullable=True)
        if "metadata" in self.properties(kind):
            blank["metadata"] = {}
        return blank

    def _blank_object(self, schema: dict[str, Any], *, with_nullable: bool = True) -> dict[str, Any]:
        required = schema.get("required", ())
        blank: dict[str, Any] = {}
        for name, declared in schema.get("properties", {}).items():
            if declared.get("nullable"):
                if with_nullable or name in required:
                    blank[name] = None
            elif name in required:
                blank[name] = self.blank(declared)
        return blank

    def blank(self, schema: dict[str, Any]) -> Any:
        """The emptiest value a schema allows."""
        if schema.get("nullable"):
            return None
        schema = self.resolve(schema)
        if "anyOf" in schema:
            return self.blank(schema["anyOf"][0])
        if "enum" in schema:
            return schema["enum"][0]
        empty = {"string": "", "integer": 0, "number": 0, "boolean": False}
        if schema.get("type") in empty:
            return empty[schema["type"]]
        if schema.get("type") == "array":
            return []
        return self._blank_object(schema)

    def overlay(self, schema: dict[str, Any], value: Any, base: Any = None) -> Any:
        """A request's value as the answer shows it: merged into what was there, ``""`` meaning "unset".

        Members Stripe requires in the answer but not in the request are filled in neutrally.
        """
        if value == "" and not _takes_text(schema):
            return self._unset(schema)
        if isinstance(value, list) and "items" in self.resolve(schema):
            items = self.resolve(schema)["items"]
            return [self.overlay(items, item) for item in value]
        if not isinstance(value, dict):
            return value
        target = self._object_branch(schema)
        if target is None:
            return value
        if "properties" not in target:
            return _merge_map(base, value)
        result = dict(base) if isinstance(base, dict) else self._blank_object(target)
        for name, item in value.items():
            if declared := target["properties"].get(name):
                result[name] = self.overlay(declared, item, result.get(name))
        return result

    def _unset(self, schema: dict[str, Any]) -> Any:
        """Null where the answer may be null, else nothing in it; metadata is never null."""
        resolved = self.resolve(schema)
        if "additionalProperties" in resolved and "properties" not in resolved:
            return {}
        return None if schema.get("nullable") or resolved.get("type") != "array" else []

    def _object_branch(self, schema: dict[str, Any]) -> dict[str, Any] | None:
        schema = self.resolve(schema)
        for branch in map(self.resolve, schema.get("anyOf", [schema])):
            if branch.get("type") == "object" and "id" not in branch.get("required", ()):
                return branch
        return None

    # Validation

    def check(self, name: str, value: Any) -> None:
        """Raise InvalidAnswer unless the value is what the schema called ``name`` describes."""
        errors = list(self._validator(name).iter_errors(value))
        if errors:
            first = errors[0]
            where = "/".join(str(part) for part in first.instance_path)
            raise InvalidAnswer(f"{name} at {where or 'its root'}: {first.message[:600]}")

    def check_object(self, value: dict[str, Any]) -> None:
        """Validate an API object by what it says it is."""
        key = (value.get("object", ""), bool(value.get("deleted")))
        if key not in self.by_object:
            raise InvalidAnswer(f"Stripe has no object {key!r}")
        self.check(self.by_object[key], value)

    def _validator(self, name: str) -> Any:
        if name not in self._validators:
            definitions: dict[str, Any] = {}
            self._define(name, definitions)
            schema = {"$ref": f"#/$defs/{name}", "$defs": definitions}
            self._validators[name] = jsonschema_rs.Draft202012Validator(schema)
        return self._validators[name]

    def _define(self, name: str, definitions: dict[str, Any]) -> None:
        if name in definitions:
            return
        definitions[name] = {}
        needed: set[str] = set()
        definitions[name] = self._convert(self.named[name], needed)
        for other in needed:
            self._define(other, definitions)

    def _convert(self, schema: dict[str, Any], needed: set[str]) -> dict[str, Any]:
        convert = functools.partial(self._convert, needed=needed)
        if "$ref" in schema:
            name = schema["$ref"].removeprefix(REFERENCE)
            needed.add(name)
            result: dict[str, Any] = {"$ref": f"#/$defs/{name}"}
        elif "x-expansionResources" in schema:
            result = {"anyOf": [{"type": "string"}, REFERENCE_OBJECT]}
        elif "anyOf" in schema:
            branches = [convert(branch) for branch in schema["anyOf"]]
            result = branches[0] if len(branches) == 1 else {"anyOf": branches}
        else:
            result = _convert_plain(schema, convert)
        if schema.get("nullable"):
            result = {"if": {"type": "null"}, "else": result}  # "anyOf" would hide what is wrong
        return result


def _convert_plain(schema: dict[str, Any], convert: Any) -> dict[str, Any]:
    result: dict[str, Any] = {key: schema[key] for key in ("type", "maxLength", "required") if key in schema}
    if "enum" in schema and not schema.get("x-stripeBypassValidation"):
        result["enum"] = schema["enum"]
    if "items" in schema:
        result["items"] = convert(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = convert(schema["additionalProperties"])
    if "properties" in schema:
        result["properties"] = {name: convert(item) for name, item in schema["properties"].items()}
        result.setdefault("additionalProperties", False)
    return result


def _takes_text(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "string" and not schema.get("nullable")


def _merge_map(base: Any, changes: dict[str, Any]) -> dict[str, Any]:
    """Metadata's rule: named keys are set, keys set to the empty string are removed."""
    merged = dict(base or {}) | changes
    return {key: value for key, value in merged.items() if value != ""}
