"""Trained fusions: the vectors of a post's fields to the one of the post."""
