"""HTTP/2 as RFC 9113 and RFC 7541 have it: frames, header compression, windows, limits. Knows nothing of gRPC."""
