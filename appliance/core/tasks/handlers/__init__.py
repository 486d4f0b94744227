"""What a worker does: one file for each type of task. A type without a handler here is never told of as a capability."""
