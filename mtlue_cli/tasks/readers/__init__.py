"""Label formats, all read into one common table of text."""
