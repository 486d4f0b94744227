"""Speech recognition on this machine, with its real model and real voices."""
