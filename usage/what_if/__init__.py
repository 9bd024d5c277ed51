"""What if: an organization's own calls under another public plan, model, voice or telephony, call by call."""
