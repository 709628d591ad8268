"""What a person is shown of a run. Pure, but for a look at which files lie here (left_behind)."""
