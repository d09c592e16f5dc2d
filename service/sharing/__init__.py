"""State that may be lost: request limits, cached answers and the feed of changes. No verb depends on it."""
