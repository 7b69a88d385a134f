"""The kinds of predictors: image classifiers in files, and Python of one's own."""
