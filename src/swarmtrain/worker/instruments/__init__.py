"""What is watched of torch and of the script from inside of a worker."""
