"""Language models: every one behind one door, and each answer with where it came from, why, and what it cost."""
