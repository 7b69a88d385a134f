"""What only Google Cloud Pub/Sub has."""
