"""What every benchmark shares: options, hardware, tables, and kept results."""
