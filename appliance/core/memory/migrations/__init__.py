"""Migrations of the memory's database (see core.migrations)."""
