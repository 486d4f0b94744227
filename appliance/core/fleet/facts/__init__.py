"""What is asked of a node: one fact per file, found by name; a piece of POSIX sh that prints it, and a pure parser.

`metrics/` is asked every round, `host/` seldom, `slow/` only where something has changed that it depends on.
"""
