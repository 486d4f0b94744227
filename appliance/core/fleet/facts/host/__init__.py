"""What changes seldom on a node."""
