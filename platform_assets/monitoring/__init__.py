"""Monitoring: labels, daily measurements, drift, incidents and their messages, and traces of answers."""
