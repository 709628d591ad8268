"""Contents of files, from one agent to another."""
