"""gRPC's own services, as methods that take and give bytes: for servers whose transport knows no protobuf."""
