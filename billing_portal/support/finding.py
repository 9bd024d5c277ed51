"""Find anything by what support is told on the phone: an e-mail address, a call id, a Stripe id, a name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

from django.db.models import Model, Q
from django.urls import reverse

from accounts.models import Organization, User
from billing_portal.billing import call_traces
from billing_portal.billing.models import Customer, InboxEvent, Intent, Invoice, PaymentMethod, Report
from billing_portal.ledger.models import Grant

_MOST_OF_A_KIND = 20


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that matches: what it is, how it is called, whose it is, and its page on the desk."""

    kind: str
    label: str
    belongs_to: str
    url: str


_SEARCHES: list[tuple[type[Model], Callable[[str], Q]]] = [
    (
        Organization,
        lambda text: (
            Q(reference=text)
            | Q(name__icontains=text)
            | Q(billing_email__iexact=text)
            | Q(memberships__user__email__iexact=text)
        ),
    ),
    (User, lambda text: Q(email__iexact=text)),
    (Customer, lambda text: Q(stripe_customer_id=text) | Q(stripe_subscription_id=text)),
    (Invoice, lambda text: Q(stripe_invoice_id=text) | Q(number=text)),
    (PaymentMethod, lambda text: Q(stripe_payment_method_id=text)),
    (InboxEvent, lambda text: Q(stripe_event_id=text) | Q(object_id=text)),
    (Intent, lambda text: Q(stripe_id=text) | Q(reference=text)),
    (Report, lambda text: Q(identifier=text)),
    (Grant, lambda text: Q(reference=text)),
]


def find(text: str) -> Iterator[Found]:
    """Yield what matches `text`, at most twenty of a kind; nothing for an empty text."""
    text = text.strip()
    if not text:
        return
    for organization in call_traces.organizations_knowing(text):
        url = f"{reverse('staff_trace')}?{urlencode({'id': text})}"
        yield Found(kind="Call", label=text, belongs_to=str(organization), url=url)
    for model, matches in _SEARCHES:
        rows = model._default_manager.filter(matches(text)).order_by("pk").distinct()
        for row in rows[:_MOST_OF_A_KIND]:
            yield Found(
                kind=str(model._meta.verbose_name).capitalize(),
                label=str(row),
                belongs_to=str(getattr(row, "organization", "") or ""),
                url=_url(row),
            )


def _url(row: Model) -> str:
    """Return a row's page: the desk page of an organization, the admin's of anything else."""
    if isinstance(row, Organization):
        return reverse("staff_organization", args=[row.public_id])
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
