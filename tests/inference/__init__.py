"""Inference: devices, tasks, versions, sources."""
