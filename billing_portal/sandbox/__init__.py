"""A stand-in for Stripe that runs as a process of its own and is spoken to over HTTP only."""
