"""The shared state between the roles and every transition of it."""
