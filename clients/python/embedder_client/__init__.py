"""Light gRPC client of embedder-serve."""
