"""Normalisation of short texts to words, without spelling variants, markup and addresses.

All comparison of texts and all text models use this function, so that texts that were cleaned before and raw texts
give the same words. The cleaning step inside models is in `text_estimators.py`.
"""

from __future__ import annotations

import html
import re
import unicodedata

# Possessive quantifiers, because user input must not cause backtracking.
_ADDRESS = re.compile(
    r"""http\S*                                      # also where it is glued to a word
      | @\S*                                         # mentions
      | (?<![a-z0-9.-]) (?: www\.\S*                 # without a scheme: www, or a host and a path
                          | (?:[a-z0-9-]++\.)+ [a-z]{2,}+ / \S* )""",
    re.VERBOSE,
)
# The rest of &amp; &gt; &lt; &quot; &nbsp; after only & and ; were removed.
_REST_OF_ENTITY = r"(?:amp|gt|lt|quot|nbsp)"
_NO_WORD = re.compile(rf"[^a-z0-9]+(?:{_REST_OF_ENTITY}(?![a-z0-9])[^a-z0-9]*)*")


def clean(text: str) -> str:
    """Return the words of a text: lower-case letters a to z and digits, separated by single blanks.

    Addresses (`http..`, `www..`, a host with a path), mentions (`@name`), HTML entities, punctuation and emoji are
    removed. Digits and the words of hashtags stay. Any apostrophe, or a blank in its place, separates words: `don't`
    becomes `don t`. Accents are removed from letters. Letters of other scripts are removed.

    A partly cleaned text gives the same words, and cleaning is idempotent. The time is linear in the length.

    Parameters
    ----------
    text
        Any text, of any length.
    """
    # Twice, because some entities are escaped twice. A third level leaves a word that is removed below.
    decomposed = unicodedata.normalize("NFKD", html.unescape(html.unescape(text)))
    if not decomposed.isascii():
        decomposed = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    plain = decomposed.lower()
    # Blanks at both ends let the expressions match the first and last word.
    return _NO_WORD.sub(" ", f" {_ADDRESS.sub(' ', plain)} ").strip()
