"""Backups: staged consistently, kept by restic, proved by a restore, applied at a start."""
