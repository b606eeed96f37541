"""From batches to Kafka: decode, build, produce, confirm, acknowledge."""
