"""Our own program on the other machines: installed, upgraded, removed, and seen by its signs of life."""
