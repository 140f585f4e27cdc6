"""Ollama's own Go integration tests, compiled from the module in Go's cache, run against an Ollama and through us."""
