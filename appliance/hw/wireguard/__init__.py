"""WireGuard, in the kernel or in user space."""
