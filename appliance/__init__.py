"""Prime Spark: the edge appliance for the Control PC."""

__version__ = "0.1.0"
