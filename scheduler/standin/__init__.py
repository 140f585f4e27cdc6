"""An Ollama that is not one: its own process that behaves as Ollama 0.32 does, with staged sizes and faults.

Nothing in the daemon imports it; the demo and the tests start it through `process.StandIn`.
"""
