"""Files to and from nodes."""
