"""What every staff action is asked with: why, and the key that makes a double submit one action."""

import uuid
from typing import Any

from django import forms


class ReasonForm(forms.Form):
    """The reason, which the customer reads, and the key minted with the form."""

    reason = forms.CharField(
        max_length=200,
        help_text="The customer reads this.",
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    key = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, initial={"key": uuid.uuid4()})


class AnswerForm(forms.Form):
    """What staff write to a customer, and the key minted with the form."""

    text = forms.CharField(
        label="Message", max_length=4000, help_text="The customer reads it.", widget=forms.Textarea(attrs={"rows": 4})
    )
    key = forms.UUIDField(widget=forms.HiddenInput)


class DecisionForm(forms.Form):
    """Why something asked for is declined."""

    reason = forms.CharField(max_length=200, widget=forms.Textarea(attrs={"rows": 2}))


class RevokeForm(DecisionForm):
    """Why something that was entered, and told to customers, does not come after all."""

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, prefix="revoke")
        self.fields["reason"].help_text = "Customers who were told of it read this."
