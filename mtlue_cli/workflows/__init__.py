"""One use case each: configuration in, result out."""
