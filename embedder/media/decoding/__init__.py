"""Decoding of files from strangers: jobs, and the processes that run them within limits."""
