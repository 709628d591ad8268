"""What is wrong with a run, by a table of rules; part of the bundle, and of the client."""
