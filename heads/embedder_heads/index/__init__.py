"""Nearest-neighbour indexes: immutable folders of FAISS and numpy files, memory-mapped and shared by processes."""
