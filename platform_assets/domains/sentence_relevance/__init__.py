"""Sentence relevance: whether a short text is about a real disaster, or only uses words such as "fire".

The source is a packed database of sentences that people labelled. README.md in this folder explains the decisions.
"""
