"""Backbones: images to a feature vector. One file a backbone, and a registry."""
