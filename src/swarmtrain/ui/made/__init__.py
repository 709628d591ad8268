"""What of the documentation is made of the code."""
