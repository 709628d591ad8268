"""What the doctor's short-lived containers do: look at their node, answer others, ask others. Standard library only."""
