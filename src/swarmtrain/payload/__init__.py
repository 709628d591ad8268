"""What is sent to the nodes: the bundle, the code, the run's spec."""
