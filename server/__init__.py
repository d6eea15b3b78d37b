"""The server: composition, services, workers, supervisor and CLI. The only room that knows gRPC."""
