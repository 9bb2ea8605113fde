"""Normalisation of short texts to lower-case words, without markup, URLs and mentions.

All text models and all comparisons of texts use `clean`, so raw texts give the same words as texts that the source has
already cleaned. `text_estimators.py` contains the cleaning step of models.
"""

from __future__ import annotations

import html
import re
import unicodedata

# The quantifiers are possessive, because backtracking on hostile input could take hours.
_ADDRESS = re.compile(
    r"""http\S*                                      # URLs, also directly after a word
      | @\S*                                         # mentions
      | (?<![a-z0-9.-]) (?: www\.\S*                 # URLs without a scheme: www.., or host/path
                          | (?:[a-z0-9-]++\.)+ [a-z]{2,}+ / \S* )""",
    re.VERBOSE,
)
# Remains of the entities &amp; &gt; &lt; &quot; &nbsp; in texts where an earlier cleaning removed only & and ;.
_REST_OF_ENTITY = r"(?:amp|gt|lt|quot|nbsp)"
_NO_WORD = re.compile(rf"[^a-z0-9]+(?:{_REST_OF_ENTITY}(?![a-z0-9])[^a-z0-9]*)*")


def clean(text: str) -> str:
    """Return the words of a text: lower-case letters a to z and digits, separated by single spaces.

    URLs (`http..`, `www..`, `host/path`), mentions (`@name`), HTML entities, punctuation and emoji are removed. Digits
    and the words of hashtags are kept. An apostrophe separates words: `don't` becomes `don t`. Accents are removed from
    letters, and letters of other scripts are removed entirely.

    Cleaning is idempotent, and takes time linear in the length of the text.
    """
    # Unescape twice, because some entities are escaped twice. `_REST_OF_ENTITY` removes the remains of deeper escaping.
    decomposed = unicodedata.normalize("NFKD", html.unescape(html.unescape(text)))
    if not decomposed.isascii():
        decomposed = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    plain = decomposed.lower()
    # `_NO_WORD` matches the remains of an entity only after a separator, so the text must begin with a space.
    return _NO_WORD.sub(" ", f" {_ADDRESS.sub(' ', plain)} ").strip()
