"""Sealing, signing and digests: the only room that touches primitives, and a pure one (no I/O of its own)."""
