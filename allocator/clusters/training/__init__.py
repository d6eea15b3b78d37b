"""Training of cluster models: features, their weights, K-means, the number of clusters, and matching.

It runs off the hot path.
"""
