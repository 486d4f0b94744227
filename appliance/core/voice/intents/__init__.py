"""From words that were heard to an action, an answer, a question, or "I did not understand"."""
