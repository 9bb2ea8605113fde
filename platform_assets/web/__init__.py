"""The domain-independent parts of the HTTP service: keys, sessions, limits, problems, pages, middleware."""
