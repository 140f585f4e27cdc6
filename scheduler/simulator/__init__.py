"""The daemon's core under a virtual clock, the baselines beside it, and what the best possible would have done."""
