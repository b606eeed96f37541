"""The embedded stack: what runs where no real server is configured."""
