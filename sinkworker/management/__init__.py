"""The HTTP API and what it reads."""
