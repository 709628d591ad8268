"""What is asked of a run in order to see into it: why it fails, where its ranks are, what was measured."""
