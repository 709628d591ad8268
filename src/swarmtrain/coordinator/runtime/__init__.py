"""The coordinator at work: its loop, the members of a run, what agents and clients say, and what is done about it."""
