"""One check per file, found by name: each module has a `CHECK`."""
