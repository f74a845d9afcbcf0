"""Tenants and their state."""
