"""What customers fill in to buy a bucket."""

from typing import Any

from django import forms

from billing_portal.billing.models import PaymentMethod, Purchase


class BucketForm(forms.Form):
    """The confirmed purchase. `key` is minted with the form; `card` is the one that was shown."""

    key = forms.UUIDField(widget=forms.HiddenInput)
    card = forms.ModelChoiceField(queryset=PaymentMethod.objects.none(), required=False, widget=forms.HiddenInput)
    way = forms.ChoiceField(choices=Purchase.Way.choices)
    renews = forms.BooleanField(required=False, label="Buy it again when its term ends")
    upgrade = forms.UUIDField(required=False, widget=forms.HiddenInput)

    def __init__(self, data: Any = None, *, cards: Any) -> None:
        super().__init__(data)
        card = self.fields["card"]
        assert isinstance(card, forms.ModelChoiceField)
        card.queryset = cards
