"""Looks at the machine, check by check, and says what is there, what is missing and the exact fix."""
