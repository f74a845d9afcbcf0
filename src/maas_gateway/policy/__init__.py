"""May this principal do this: pure decisions on values."""
