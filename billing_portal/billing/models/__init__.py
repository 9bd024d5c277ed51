"""The models, by noun. Each module keeps one; the rest of the code imports from here."""

from billing_portal.billing.models.amounts_due import AmountDue
from billing_portal.billing.models.buckets import BucketOffer, BucketRenewal
from billing_portal.billing.models.claims import Chargeback, FraudWarning, InvoicePayment, Refund
from billing_portal.billing.models.collecting import Overdue, PaymentAttempt
from billing_portal.billing.models.credit_notes import CreditNote
from billing_portal.billing.models.debts import DebtLine
from billing_portal.billing.models.discounts import Discount
from billing_portal.billing.models.disputes import Dispute, DisputeMessage
from billing_portal.billing.models.exchange_rates import ExchangeRate
from billing_portal.billing.models.interims import InterimInvoice, InterimLine
from billing_portal.billing.models.mismatches import InvoiceCheck, Mismatch
from billing_portal.billing.models.purchases import Purchase, PurchaseStep, TopUp
from billing_portal.billing.models.receipts import Receipt, ReceiptFile, ReceiptKey, ReceiptPayment
from billing_portal.billing.models.seats import SeatMonth, SeatMove, SeatPlan
from billing_portal.billing.models.stripe_objects import (
    CardSetup,
    CreditLine,
    Customer,
    InboxEvent,
    Intent,
    Invoice,
    InvoiceLine,
    Meter,
    MeterPrice,
    PaymentMethod,
    Report,
    ReportBatch,
    ReportedSettlement,
)
from billing_portal.billing.models.subscription_items import SubscriptionItem
from billing_portal.billing.models.tax import BillingDetails, DetailsAtStripe, InvoiceParty, InvoiceTax, TaxId

__all__ = [
    "AmountDue",
    "BillingDetails",
    "BucketOffer",
    "BucketRenewal",
    "CardSetup",
    "Chargeback",
    "CreditLine",
    "CreditNote",
    "Customer",
    "DebtLine",
    "DetailsAtStripe",
    "Discount",
    "Dispute",
    "DisputeMessage",
    "ExchangeRate",
    "FraudWarning",
    "InboxEvent",
    "Intent",
    "InterimInvoice",
    "InterimLine",
    "Invoice",
    "InvoiceCheck",
    "InvoiceLine",
    "InvoiceParty",
    "InvoicePayment",
    "InvoiceTax",
    "Meter",
    "MeterPrice",
    "Mismatch",
    "Overdue",
    "PaymentAttempt",
    "PaymentMethod",
    "Purchase",
    "PurchaseStep",
    "Receipt",
    "ReceiptFile",
    "ReceiptKey",
    "ReceiptPayment",
    "Refund",
    "Report",
    "ReportBatch",
    "ReportedSettlement",
    "SeatMonth",
    "SeatMove",
    "SeatPlan",
    "SubscriptionItem",
    "TaxId",
    "TopUp",
]
