"""What a node measures of itself, beside the training: see measuring.py."""
