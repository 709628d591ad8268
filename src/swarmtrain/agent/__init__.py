"""The agent: the first process on each node. Standard library, protocol and wire only; part of the bundle."""
