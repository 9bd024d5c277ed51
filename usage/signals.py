"""What usage tells whoever listens. It imports none of them."""

from django.dispatch import Signal

# Sent after the commit that recorded or rated calls. Argument: `organization_ids`, a sorted list.
calls_recorded = Signal()

# Sent after the commit that charged or reversed outcomes. Argument: `organization_ids`, a sorted list.
outcomes_charged = Signal()
