"""The console: what people see. Reads the live state, invokes actions, holds no logic."""
