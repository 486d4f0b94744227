"""Widgets of our own, painted line by line: one changed line is one line sent."""
