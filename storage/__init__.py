"""PostgreSQL, Redis, the engines that come with Samplit, and encryption. It returns types of the allocator,
and knows no gRPC.
"""
