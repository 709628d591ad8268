"""What was seen of a fault, and what follows from it."""
