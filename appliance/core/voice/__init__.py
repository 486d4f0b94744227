"""Voice: hears its name, understands, acts, answers, and says what it cannot do."""
