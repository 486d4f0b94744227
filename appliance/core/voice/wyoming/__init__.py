"""The Wyoming protocol: others that recognise and speak for the appliance, and the appliance that does so for them."""
