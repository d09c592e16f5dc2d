"""Runs PostgreSQL as a child process of the service, for machines without a server."""
