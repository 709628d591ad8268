"""Commands that look into a run: one module each."""
