"""Tests of the VPN: pure ones, and ones with real tunnels between network namespaces."""
