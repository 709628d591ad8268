"""What the coordinator keeps on disk: journal, output and metrics."""
