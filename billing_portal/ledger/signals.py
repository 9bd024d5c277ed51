"""What the ledger tells of. Sent after the commit."""

from django.dispatch import Signal

# Arguments: organization_id, now. Its balance has just changed: usage was settled.
usage_settled = Signal()
