"""What every program here does and says, whatever it is for: streams, signals, options, words."""
