"""The errors Stripe answers with, in Stripe's shape."""

from typing import Any


class StripeError(Exception):
    """One refusal: the HTTP status and the members of Stripe's ``error`` object.

    ``keeps_changes`` is true where Stripe records the failed attempt (a declined charge) although it
    answers with an error; every other error leaves the state as it was.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = "invalid_request_error",  # noqa: A002 -- Stripe's own name for the member
        keeps_changes: bool = False,
        **members: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.keeps_changes = keeps_changes
        self.members = {"type": type, "message": message} | {k: v for k, v in members.items() if v is not None}

    def body(self) -> dict[str, Any]:
        return {"error": self.members}


def invalid(message: str, *, param: str | None = None, code: str | None = None, **members: Any) -> StripeError:
    """A request that cannot be carried out as asked (HTTP 400)."""
    return StripeError(message, param=param, code=code, **members)


def missing(kind: str, key: str, *, param: str = "id", status: int = 404) -> StripeError:
    """No such object, worded as Stripe words it; as a parameter it is a 400, in the path a 404."""
    noun = {"test_helpers.test_clock": "testclock", "payment_method": "PaymentMethod"}.get(kind)
    noun = noun or kind.rsplit(".", 1)[-1]
    return StripeError(f"No such {noun}: '{key}'", status=status, param=param, code="resource_missing")


def declined(message: str, *, code: str, decline_code: str | None = None, **members: Any) -> StripeError:
    """A card the bank or Radar refused (HTTP 402); the attempt stays on record."""
    return StripeError(
        message,
        status=402,
        type="card_error",
        code=code,
        decline_code=decline_code,
        keeps_changes=True,
        **members,
    )


class InvalidAnswer(Exception):
    """The sandbox built something Stripe's specification does not allow; a bug in the sandbox."""
