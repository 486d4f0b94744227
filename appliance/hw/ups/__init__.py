"""One file for each kind of UPS."""
