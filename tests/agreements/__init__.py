"""Scenarios that the stand-in and a real Ollama must answer alike; `script.py` says how they are written."""
