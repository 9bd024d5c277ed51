"""Receipts: the pack with which anyone can recompute one invoice without trusting the vendor."""
