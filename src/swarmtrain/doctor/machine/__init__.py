"""`doctor --on local`: this machine, before runs on it."""
