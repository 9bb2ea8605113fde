"""HTTP without a word of any domain: keys, sessions, limits, problems, base pages, middleware."""
