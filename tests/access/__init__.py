"""The API over TCP, and who may use it."""
