"""Requests that say which request they are, so that one sent twice is done once."""
