"""`make proof`: every promise about the default policy, measured: one row each, with its target beside it."""
