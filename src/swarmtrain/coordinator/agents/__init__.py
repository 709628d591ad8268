"""What serves the agents: who may come in, and what each of their messages changes."""
