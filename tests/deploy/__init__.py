"""Tests of deployments: real programs on nodes behind real sshd, real HAProxy, real load."""
