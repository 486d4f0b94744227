"""What others may watch the appliance by: counts and times for Prometheus, spans for a collector of traces."""
