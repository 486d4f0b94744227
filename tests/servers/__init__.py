"""Real servers for tests, as children on loopback, each in a directory of its own, and the faults they can be made to have."""
