"""What processes share through Redis and may lose. Nothing here is ever asked whether a slot is free."""
