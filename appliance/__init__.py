"""Prime Spark: the edge appliance for the Control PC."""

import os

__version__ = "0.1.0"

# ONNX Runtime reports to its vendor, and writes below HOME, unless it is told not to before it loads.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
