"""The second part of the benchmark: what a decision costs inside PostgreSQL, without HTTP or Python."""
