"""The snapshots of a run, on all of its nodes at once."""
