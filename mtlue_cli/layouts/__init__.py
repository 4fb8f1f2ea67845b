"""Layouts of data sets: where the labels of a folder are, and the files by which others load its release."""
