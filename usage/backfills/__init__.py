"""Pricing the calls of some days anew: counted first, let go ahead by a second person, then done call by call."""
