"""The outside world: assistants and protocols. Adapters do not import each other."""
