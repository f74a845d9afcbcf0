"""Predictions: one conductor for every door, and what is in memory kept in step with the registry."""
