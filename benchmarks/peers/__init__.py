"""This project beside others that serve a model over Kafka: `python -m benchmarks.peers`."""
