"""What is decided of the files that a run's nodes share."""
