"""The processes that serve, and how far each has followed what was changed."""
