"""Seeded training loops for multi-task networks and generators."""
