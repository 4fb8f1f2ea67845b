"""Embedding regularisation within a task and between tasks."""
