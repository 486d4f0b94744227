"""The appliance's own life: its backups and how they come back."""
