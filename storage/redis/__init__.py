"""Redis or Valkey: what the data plane needs, and the event streams."""
