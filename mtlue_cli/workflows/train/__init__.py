"""Train a generator on a folder."""
