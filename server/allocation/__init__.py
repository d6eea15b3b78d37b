"""The use cases of the data plane, allocate and convert, and what they remember. Knows no gRPC and no protobuf."""
