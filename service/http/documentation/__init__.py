"""The API described: the OpenAPI document for programs, and a page of the same for people."""
