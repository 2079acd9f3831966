"""Answers from passages by a local causal language model; torch stays in `transformers_model.py`."""
