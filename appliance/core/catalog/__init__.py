"""The actions of the appliance, one file per noun; each file's `actions` makes them for what it is given."""
