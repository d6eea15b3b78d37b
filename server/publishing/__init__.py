"""The only way in which configurations, posteriors, segments and API keys reach Redis.

A change is published in this order: first the segment registries and cluster models that the new configuration will
name (`segments`), then the transaction commits in Postgres, then configuration and posterior are published in one step
(`publish`). A crash anywhere in between leaves the old configuration with its own posterior, and the reconciler
publishes the rest within seconds.
"""
