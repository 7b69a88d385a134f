"""What the four scripts share: events, options, life cycle, and the demo."""
