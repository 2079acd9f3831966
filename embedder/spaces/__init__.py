"""Which embedding spaces there are, and how one gives way to the next."""
