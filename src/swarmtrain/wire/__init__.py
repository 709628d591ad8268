"""What both sides of the wire share: names, the framed channel, clocks and files. Standard library only."""
