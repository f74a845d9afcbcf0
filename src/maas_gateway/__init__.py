"""Serve models that must not leak, to clients who are not fully trusted."""

__version__ = "0.1.0"
