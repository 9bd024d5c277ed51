"""What people call outcomes in a sentence."""

from collections.abc import Sequence

from usage.models.outcomes import OutcomeType


def noun_of(outcomes: Sequence[str]) -> str:
    """Return what units that pay for these types are: "resolutions", or "outcomes" where there are several types."""
    return str(OutcomeType(outcomes[0]).label).lower() if len(outcomes) == 1 else "outcomes"
