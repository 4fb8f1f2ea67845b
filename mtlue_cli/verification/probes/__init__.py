"""What can be read off a release without training on it."""
