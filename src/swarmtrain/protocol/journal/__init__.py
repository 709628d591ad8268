"""The events of a run's journal, and the lines in which coordinator and agents keep them."""
