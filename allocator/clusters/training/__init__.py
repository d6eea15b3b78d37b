"""Training of cluster models: features, K-means, the number of clusters, names and matching. Runs off the hot path."""
