"""Hearing: what is sound, what is speech, when it begins and ends, and whether a wake word was said."""
