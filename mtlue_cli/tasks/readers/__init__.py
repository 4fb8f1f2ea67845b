"""Label formats: one file each, all read into one common table of text."""
