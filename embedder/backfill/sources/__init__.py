"""Files that hold rows: how each format is cut into ranges, and how a range is read."""
