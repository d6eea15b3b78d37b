"""The commands that run or look after an installation on this machine. They need its settings and stores, not gRPC."""
