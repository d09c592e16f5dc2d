"""PostgreSQL as a child of the service, for machines without a server."""
