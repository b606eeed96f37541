"""Transformations (contract §6): a user's JavaScript function, run by V8 in a process of its own."""
