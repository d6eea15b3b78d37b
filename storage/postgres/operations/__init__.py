"""What operators need: alerts, notifications, the audit, API keys, and stored responses."""
