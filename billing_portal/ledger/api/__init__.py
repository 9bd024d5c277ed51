"""What the vendor's platform asks before it starts a call: may it, and will you hold the money for it."""
