"""From KurrentDB: records and progress marks."""
