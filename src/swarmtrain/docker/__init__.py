"""The docker command line, and what it reads and writes."""
