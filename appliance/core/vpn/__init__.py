"""The VPN: tunnels, their peers, and why one is down."""
