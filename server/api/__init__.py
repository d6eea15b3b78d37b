"""The gRPC services: authentication, statuses, and conversion between messages and use cases. Decides nothing."""
