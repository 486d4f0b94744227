"""How a terminal becomes a console: drivers, the UI thread, SSH, attaching, and headless keys."""
