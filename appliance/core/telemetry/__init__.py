"""Readings of the host, kept and shown."""
