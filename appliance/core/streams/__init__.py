"""Events on their way to Kafka and back."""
