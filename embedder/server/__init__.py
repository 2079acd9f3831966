"""gRPC services and the objects they are built from."""
