"""`make demo`: the whole pipeline on the embedded broker."""
