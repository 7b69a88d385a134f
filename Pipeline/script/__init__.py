"""What the four scripts share: options, life cycle, logs, waiting."""
