"""What operators need: alerts, notifications, the audit, API keys, remembered answers."""
