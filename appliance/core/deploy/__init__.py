"""Deployments: services in versions and replicas over the nodes."""
