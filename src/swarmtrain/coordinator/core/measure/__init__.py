"""What is made of measurements, and decides nothing."""
