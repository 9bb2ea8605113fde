"""Sentence relevance: whether a short text is about a disaster that happens, or only uses its words.

From a packed database of sentences that people labelled to one row per sentence that says what is learned from it.
Decisions and reasons are in this folder's README.md.
"""
