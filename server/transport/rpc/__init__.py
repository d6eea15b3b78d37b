"""The gRPC protocol over HTTP/2: requests, messages, metadata and statuses. Knows nothing of frames."""
