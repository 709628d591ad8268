"""What serves the clients: their way in, their requests, the status document."""
