"""Tasks: a queue, workers, schedules."""
