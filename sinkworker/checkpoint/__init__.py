"""From the ledger back to KurrentDB: the watermark made durable."""
