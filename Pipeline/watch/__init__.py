"""`python -m Pipeline.watch`: the pipeline at a glance, in a terminal."""
