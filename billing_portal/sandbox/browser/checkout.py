"""Hosted Checkout: placeholder until the engine opens sessions."""

routes: list = []
