"""What starts a process and what ends it."""
