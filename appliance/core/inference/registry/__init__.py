"""Which versions of which models there are, which of them serve, and how well."""
