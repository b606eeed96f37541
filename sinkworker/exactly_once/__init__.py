"""Exactly once, where a connector asks for it: a lane's progress committed in the transaction of its records (P4)."""
