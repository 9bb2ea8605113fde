"""What two texts have in common once spelling, markup and addresses are taken away: their words.

Everything that compares or learns from short texts cleans them here, so that what was cleaned long ago
and what comes in raw are the same words. What cleans inside a model is in `text_estimators.py`.
"""

from __future__ import annotations

import html
import re
import unicodedata

# Possessive, for texts of strangers must not make it backtrack.
_ADDRESS = re.compile(
    r"""http\S*                                      # also where it is glued to a word
      | @\S*                                         # mentions
      | (?<![a-z0-9.-]) (?: www\.\S*                 # without a scheme: www, or a host and a path
                          | (?:[a-z0-9-]++\.)+ [a-z]{2,}+ / \S* )""",
    re.VERBOSE,
)
# What is left of &amp; &gt; &lt; &quot; &nbsp; where only the signs around them were removed.
_REST_OF_ENTITY = r"(?:amp|gt|lt|quot|nbsp)"
_NO_WORD = re.compile(rf"[^a-z0-9]+(?:{_REST_OF_ENTITY}(?![a-z0-9])[^a-z0-9]*)*")


def clean(text: str) -> str:
    """The words of a text: lower case, letters a to z and digits, one blank between them.

    Dropped are addresses (`http..`, `www..`, a host with a path), mentions (`@name`), HTML entities, punctuation and
    emoji; the word of a hashtag stays, and so do digits. An apostrophe divides, be it straight, curly or already
    replaced by a blank: `don't` is `don t`. Accents go and their letters stay. Nothing is left of other scripts.

    A text of which this is done in part, as texts in databases often are, gives the same words; cleaning twice
    changes nothing. Time grows with the length alone, whatever the text.

    Parameters
    ----------
    text
        Any text, of any length.
    """
    # Twice, for entities are found escaped twice; the rest of a third time is a word that is dropped.
    decomposed = unicodedata.normalize("NFKD", html.unescape(html.unescape(text)))
    if not decomposed.isascii():
        decomposed = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    plain = decomposed.lower()
    # Blanks at both ends, so that a word there is found as any other is.
    return _NO_WORD.sub(" ", f" {_ADDRESS.sub(' ', plain)} ").strip()
