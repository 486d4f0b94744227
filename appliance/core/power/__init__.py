"""Power: what feeds the machine, how long it lasts, and what is done about it."""
