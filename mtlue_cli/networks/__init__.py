"""Multi-task networks for surrogate and victim alike."""
