"""What the service logs, counts and traces."""
