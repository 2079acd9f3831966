"""Where vectors go beside the cache: Parquet, a NumPy matrix, an index; and the rejects."""
