"""The command doctor, and how its findings look."""
