"""What the appliance knows of the past, and can be asked about."""
