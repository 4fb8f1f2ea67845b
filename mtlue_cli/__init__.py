"""mtlue: publish labelled images that nobody can learn from."""

__version__ = "0.1.0"
