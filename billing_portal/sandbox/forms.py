"""Requests: from Stripe's bracketed forms to typed values, refusing what Stripe does not describe."""

import re
from typing import Any
from urllib.parse import parse_qsl

from .errors import StripeError, invalid
from .schemas import Schemas

BRACKETS = re.compile(r"\[([^\]]*)\]")
WHOLE = re.compile(r"[+-]?\d{1,18}$")
MAX_DEPTH = 12


def decode(text: str) -> dict[str, Any]:
    """``a[b][0][c]=1`` as ``{"a": {"b": {"0": {"c": "1"}}}}``; lists keep their indexes until typed."""
    result: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        head, _, rest = name.partition("[")
        keys = [head, *BRACKETS.findall("[" + rest)] if rest else [head]
        if len(keys) > MAX_DEPTH:
            raise invalid(f"Invalid request: parameter nested too deeply: {name[:80]}")
        _place(result, keys, value)
    return result


def _place(target: dict[str, Any], keys: list[str], value: str) -> None:
    for key in keys[:-1]:
        inner = target.setdefault(key or str(len(target)), {})
        if not isinstance(inner, dict):
            raise invalid(f"Invalid request: {key} is given both as a value and as a hash", param=key)
        target = inner
    target[keys[-1] or str(len(target))] = value


class Coercer:
    """Types a decoded request by the operation's schema."""

    def __init__(self, schemas: Schemas) -> None:
        self.schemas = schemas

    def request(self, values: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
        """The typed parameters of a request, or Stripe's refusal naming the parameter at fault."""
        return self._members(values, schema, "") if schema else values

    def value(self, value: Any, schema: dict[str, Any], param: str) -> Any:
        schema = self.schemas.resolve(schema)
        if "anyOf" in schema:
            return self._any_of(value, schema["anyOf"], param)
        kind = schema.get("type")
        if kind == "object":
            return self._object(value, schema, param)
        if kind == "array":
            return self._array(value, schema, param)
        return _scalar(value, schema, param)

    def _any_of(self, value: Any, branches: list[dict[str, Any]], param: str) -> Any:
        """The first branch that takes the value; a hash or list is reported against the branch of its shape."""
        resolved = [self.schemas.resolve(branch) for branch in branches]
        composite = isinstance(value, dict | list)
        shaped = [b for b in resolved if (b.get("type") in {"object", "array"}) == composite]
        refusals = []
        for branch in sorted(shaped or resolved, key=lambda b: "enum" not in b):
            try:
                return self.value(value, branch, param)
            except StripeError as refusal:
                refusals.append(refusal)
        raise refusals[-1]

    def _object(self, value: Any, schema: dict[str, Any], param: str) -> Any:
        if not isinstance(value, dict):
            raise invalid("Invalid object", param=param, code="parameter_invalid_empty" if value == "" else None)
        extra = schema.get("additionalProperties")
        if "properties" not in schema and isinstance(extra, dict):
            return {k: self.value(v, extra, f"{param}[{k}]") for k, v in value.items()}
        return self._members(value, schema, param)

    def _members(self, values: dict[str, Any], schema: dict[str, Any], param: str) -> dict[str, Any]:
        properties = schema.get("properties", {})
        unknown = [_nested(param, name) for name in values if name not in properties]
        if unknown:
            plural = "s" if len(unknown) > 1 else ""
            raise invalid(
                f"Received unknown parameter{plural}: {', '.join(unknown)}",
                param=unknown[0],
                code="parameter_unknown",
            )
        for name in schema.get("required", ()):
            if name not in values:
                raise invalid(
                    f"Missing required param: {_nested(param, name)}.",
                    param=_nested(param, name),
                    code="parameter_missing",
                )
        return {name: self.value(item, properties[name], _nested(param, name)) for name, item in values.items()}

    def _array(self, value: Any, schema: dict[str, Any], param: str) -> list[Any]:
        if isinstance(value, dict):
            if not all(key.isdigit() for key in value):
                raise invalid("Invalid array", param=param)
            value = [value[key] for key in sorted(value, key=int)]
        if not isinstance(value, list):
            raise invalid("Invalid array", param=param)
        return [self.value(item, schema["items"], f"{param}[{index}]") for index, item in enumerate(value)]


def _nested(param: str, name: str) -> str:
    return f"{param}[{name}]" if param else name


def _scalar(value: Any, schema: dict[str, Any], param: str) -> Any:
    if isinstance(value, dict | list):
        raise invalid(f"Invalid {schema.get('type', 'value')}: a hash or list was given", param=param)
    typed = _SCALARS.get(schema.get("type", "string"), _text)(value, param)
    enum = schema.get("enum")
    if enum and typed not in enum and not schema.get("x-stripeBypassValidation"):
        choices = ", ".join(str(choice) for choice in enum if choice != "") or "the empty string"
        raise invalid(f"Invalid {param}: must be one of {choices}", param=param)
    limit = schema.get("maxLength")
    if limit is not None and isinstance(typed, str) and len(typed) > limit:
        raise invalid(
            f"Invalid string: {typed[:12]}...; must be at most {limit} characters",
            param=param,
        )
    return typed


def _whole(value: Any, param: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not WHOLE.match(value):
        raise invalid(f"Invalid integer: {value}", param=param, code="parameter_invalid_integer")
    return int(value)


def _number(value: Any, param: str) -> float | int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise invalid(f"Invalid number: {value}", param=param) from None
    return int(number) if number.is_integer() else number


def _boolean(value: Any, param: str) -> bool:
    if isinstance(value, bool):
        return value
    if value not in {"true", "false"}:
        raise invalid(f"Invalid boolean: {value}", param=param)
    return bool(value == "true")


def _text(value: Any, param: str) -> str:
    if not isinstance(value, str):
        raise invalid(f"Invalid string: {value}", param=param)
    return value


_SCALARS = {"integer": _whole, "number": _number, "boolean": _boolean, "string": _text}
