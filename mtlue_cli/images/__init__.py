"""Finding, decoding, encoding and batching images."""
