"""What a run is, and what is decided of it. Pure: no clock, no socket and no file."""
