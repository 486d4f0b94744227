"""Tests of what others watch the appliance by."""
