"""A warm worker: forked from a process that has imported torch, and not to be told from a fresh interpreter."""
