"""Predictors to begin from: each serves as it is, and is run by a test."""
