"""What runs in a node: its process 1, which answers as systemd does. Standard library only: it is copied into the node."""
