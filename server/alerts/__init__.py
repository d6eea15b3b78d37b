"""Alerts: what is checked, and how an alert is raised and resolved. People get notices of both."""
