"""Figures of the data plane: throughput, latency, memory, faults."""
