"""What `sinkworker connectors …` does: each command's work, over the API, over the database, or over nothing at all."""
