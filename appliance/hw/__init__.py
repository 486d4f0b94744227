"""One file per device; each implements a port of the core. Heavy imports are inside functions."""
