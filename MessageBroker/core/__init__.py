"""What is the same for all brokers."""
