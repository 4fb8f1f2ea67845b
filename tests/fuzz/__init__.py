"""Hostile files, made without end: ``python -m tests.fuzz --minutes 2``."""
