"""Look up, single-flight, schedule, run, store."""
