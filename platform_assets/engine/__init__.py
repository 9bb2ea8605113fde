"""The query engine and the files that it stages."""
