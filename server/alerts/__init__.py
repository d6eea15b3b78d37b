"""Alerts: what is looked at, what it means, and how people come to know."""
