"""Evidence that a model was trained on a release, and what a copy of a release still has of its protection."""
