"""Alerts that leave the consoles: who is told, when, by which channel, and what came of it."""
