"""What msgspec says of a value that does not fit its type, as a field and a reason for people."""

import msgspec


def of(error: msgspec.ValidationError) -> tuple[str, str]:
    """Return (field, reason) of msgspec's message ("… - at `$.a.b`"); the field is a path, empty for the whole."""
    reason, _, path = str(error).partition(" - at `$")
    field = path.rstrip("`").lstrip(".")
    if reason.startswith("Object missing required field"):
        name = reason.split("`")[1]
        return f"{field}.{name}".lstrip("."), "The field is required."
    return field, f"{reason}."
