"""The lab: the owner's whole fleet on one machine, each node in namespaces of its own (docs/lab.md)."""
