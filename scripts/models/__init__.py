"""What each model of the set-up is made of: one recipe a file."""
