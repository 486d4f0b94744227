"""Measures the appliance against its budgets; `make bench` runs all, `make bench ONLY=name` one."""
