"""Conversations, and the one billable result that each of them reached, or did not."""
