"""Bytes to model inputs, within limits."""
