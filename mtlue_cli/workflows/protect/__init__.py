"""Protect a folder: plan once, process photo by photo, close the release."""
