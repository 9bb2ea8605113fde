"""Incidents: problems that people should know about, from their detection to the messages about them."""
