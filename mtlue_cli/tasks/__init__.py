"""Tasks, their label files, losses and shifted targets."""
