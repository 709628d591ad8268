"""What lies on a node's disk and in its memory, and how it is written so that nothing is lost."""
