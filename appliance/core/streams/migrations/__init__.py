"""Migrations of the streams' database (see core.migrations)."""
