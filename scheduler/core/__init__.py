"""Law: facts in, orders out. Nothing here reads a clock, draws chance, writes a log or touches the world."""
