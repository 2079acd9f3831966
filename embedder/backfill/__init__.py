"""Backfill: a billion items that exist already, understood once at the encoder's own speed, and resumed without repeating work."""
