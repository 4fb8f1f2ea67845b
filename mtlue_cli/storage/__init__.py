"""Images and releases in object stores, by URL."""
