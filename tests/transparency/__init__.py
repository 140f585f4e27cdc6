"""Request shapes asked of a real Ollama and of us, as data, and what tells one answer from the other."""
