"""A real Ollama with a real llama.cpp engine on a staged 48 GB Mac, for tests: start at `stage.py`."""
