"""The agent: the first process on each node. Standard library and wire only; part of the bundle."""
