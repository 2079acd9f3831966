"""Recommendation: what to show next, from what was seen."""
