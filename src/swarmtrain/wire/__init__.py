"""The words that both sides of the wire share: names, messages and the framed channel. Standard library only."""
