"""What the doctor's containers report."""
