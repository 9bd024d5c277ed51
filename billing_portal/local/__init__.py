"""The embedded servers and the demo."""
