"""What the appliance does: no user interface, no device library, no globals."""
