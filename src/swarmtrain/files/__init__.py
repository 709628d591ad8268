"""A node's files, for those who ask: read by its agent, or by a coordinator on the same machine."""
