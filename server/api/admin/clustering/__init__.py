"""ClusteringService."""
