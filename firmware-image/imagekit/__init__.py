"""Builds the SD-card image, its update bundles and the Debian package of Prime Spark: python -m imagekit --help."""
