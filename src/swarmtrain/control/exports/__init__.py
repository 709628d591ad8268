"""What was measured of a run, for other tools: Prometheus, TensorBoard."""
