"""The work of the stages: images in, results out."""
