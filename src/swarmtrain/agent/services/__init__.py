"""What an agent, or a short-lived stand-in for one, does on a node besides training."""
