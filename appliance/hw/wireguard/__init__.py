"""WireGuard: the interface, whatever carries it, with its addresses, routes and rules."""
