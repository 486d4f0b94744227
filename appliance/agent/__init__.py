"""The worker of other machines: one role a process, such as the sink from Kafka to the analytics database."""
