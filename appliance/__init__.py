"""Prime Spark: the edge appliance for the Control PC."""

import os

__version__ = "0.1.0"

# ONNX Runtime reports to its vendor, and writes below HOME, unless it is told not to before it loads.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# DuckDB's allocator keeps what was freed for ten seconds and more, unless it is told not to before it loads (jemalloc(3)).
os.environ.setdefault("DUCKDB_JE_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0,narenas:1")
