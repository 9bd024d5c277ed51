"""Texts that a spreadsheet would take for a formula, where Python writes the file; SQL does it for exports itself."""

_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def guarded(text: str) -> str:
    """Return a text as a cell that no spreadsheet takes for a formula: such a one gets an apostrophe."""
    return f"'{text}" if text.startswith(_STARTS) else text
