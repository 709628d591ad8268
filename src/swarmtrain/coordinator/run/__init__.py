"""The run itself: its members, the generation that runs now, and what is decided, carried out."""
