"""Engines: where units of work run, in this process or on a cluster."""
