"""The programs' way in: calls are posted, and calls and usage are read."""
