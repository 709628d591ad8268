"""The doctor inside of a run: its nodes and the ways between them, tried beside the training."""
