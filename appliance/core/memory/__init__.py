"""Tiered memory: Redis, local disk, NAS and cloud as one memory (see docs/memory.md)."""
