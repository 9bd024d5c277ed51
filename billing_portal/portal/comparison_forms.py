"""What people fill in to have their own log compared: the file and its days, then what its columns mean."""

from datetime import date
from decimal import Decimal
from typing import Any

from django import forms

from usage.comparisons.columns import Columns
from usage.models import Comparison
from usage.money import MICROS_PER_UNIT

_DATE = {"type": "date"}
_NONE = ("", "Not compared")
_MS = 1_000


class UploadForm(forms.Form):
    """A file, and the days whose calls should be in it."""

    file = forms.FileField(
        label="Your log",
        help_text="CSV, JSON, JSON lines or XLSX with a row a call: up to 1,000,000 rows.",
        widget=forms.FileInput(attrs={"accept": ".csv,.tsv,.txt,.json,.jsonl,.ndjson,.xlsx"}),
    )
    starts_date = forms.DateField(label="From", widget=forms.DateInput(attrs=_DATE, format="%Y-%m-%d"))
    ends_date = forms.DateField(
        label="To",
        help_text="Our calls that began on these days, in your time zone, should be in the file.",
        widget=forms.DateInput(attrs=_DATE, format="%Y-%m-%d"),
    )

    def __init__(self, data: Any = None, files: Any = None, *, days: tuple[date, date]) -> None:
        super().__init__(data, files, initial={"starts_date": days[0], "ends_date": days[1]})


class ColumnsForm(forms.Form):
    """Which column means what, how it is written, and what still counts as the same."""

    call_id = forms.ChoiceField(label="Call id", help_text="The id that the platform gave the call.")
    duration = forms.ChoiceField(label="Duration", required=False)
    duration_unit = forms.ChoiceField(
        label="Durations are in",
        choices=[("s", "Seconds"), ("ms", "Milliseconds"), ("min", "Minutes"), ("clock", "Like 1:23 or 0:01:23")],
    )
    price = forms.ChoiceField(label="Price", required=False)
    price_unit = forms.ChoiceField(
        label="Prices are in",
        choices=[("major", "Whole units, like 0.125"), ("hundredth", "Hundredths, like 12.5"), ("micros", "Micros")],
    )
    decimal = forms.ChoiceField(label="Decimals", choices=[(".", "1,234.5"), (",", "1.234,5")])
    tolerance_seconds = forms.DecimalField(
        label="Same duration within, in seconds", min_value=0, max_value=3600, decimal_places=3, initial=Decimal(1)
    )
    tolerance_amount = forms.DecimalField(
        label="Same price within", min_value=0, max_value=1000, decimal_places=6, initial=Decimal("0.01")
    )

    def __init__(self, data: Any = None, *, comparison: Comparison, suggested: Columns) -> None:
        super().__init__(data, initial=suggested.stored())
        names = [(name, name) for name in comparison.header]
        for field_name, choices in (("call_id", names), ("duration", [_NONE, *names]), ("price", [_NONE, *names])):
            field = self.fields[field_name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = choices
        self.fields["tolerance_amount"].label = f"Same price within, in {comparison.organization.currency}"

    @property
    def columns(self) -> Columns:
        """What was chosen; only of a valid form."""
        return Columns(**{name: self.cleaned_data[name] for name in Columns.__dataclass_fields__})

    @property
    def tolerance_ms(self) -> int:
        """How far durations may differ."""
        return int(self.cleaned_data["tolerance_seconds"] * _MS)

    @property
    def tolerance_micros(self) -> int:
        """How far prices may differ."""
        return int(self.cleaned_data["tolerance_amount"] * MICROS_PER_UNIT)
