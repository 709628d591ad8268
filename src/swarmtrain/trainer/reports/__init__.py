"""What a training tells of itself: to its agent, to trackers, to a person."""
