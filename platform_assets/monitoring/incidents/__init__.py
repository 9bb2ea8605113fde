"""Incidents: detect problems of the platform, record them, and send messages about them."""
