"""The machines that the owner has, over SSH."""
