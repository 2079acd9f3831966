"""The embedded default space: an image-text encoder whose weights install with pip alone."""
