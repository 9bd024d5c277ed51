"""Pages of the staff desk that are not a model's, one module a noun."""
