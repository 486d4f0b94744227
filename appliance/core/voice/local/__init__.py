"""Engines of this machine: nothing of what they hear or say leaves it."""
