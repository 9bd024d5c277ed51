"""A self-service billing portal: rate locally, collect through Stripe, prove that the two agree."""
