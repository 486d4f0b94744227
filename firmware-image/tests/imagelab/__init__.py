"""Machines in QEMU that start the image, and what looks at them from outside."""
