"""Understand content once: the service."""
