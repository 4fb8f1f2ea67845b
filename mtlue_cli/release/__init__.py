"""Releases: what was released, under which settings, and whether it is whole."""
