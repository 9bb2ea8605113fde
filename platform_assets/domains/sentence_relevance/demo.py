"""Generated sample sentences with labels, packed like the real archive: a SQLite database as base64 in a tar.gz file.

All sentences are generated. The sample has these irregularities of the real archive:

- The only file in the archive is inside nested folders. Its base64 text has lines of 76 characters.
- The table has an index and no primary key, and its rows are ordered by topic.
- The texts are cleaned: lower case, no URLs, two spaces where something was removed. Some contain line breaks.
- 7 % of the sentences repeat an earlier sentence, some with another label. 8 % are near-duplicates.
- A few are labelled "Can't Decide".
- Labels are noisy, so no model predicts all of them correctly. A model of words and word pairs reaches an F1 of 0.7
  to 0.8.

One row in 200 deliberately has an error: no text, an unknown label, a label that contradicts the label's number, no row
number, a repeated row number, or bytes that are not text. A sample of 1,200 rows or more contains every kind of error.
"""

from __future__ import annotations

import base64
import gzip
import io
import sqlite3
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.landing.file_writer import write_bytes
from platform_assets.landing.sample_data import Demo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Row = list[Any]

SEED = 20_260_101
MEMBER = "Users/demo/Downloads/db.sqlite.base64"
LABELS = ("Not Relevant", "Relevant", "Can't Decide")
SHARE_OF_BAD_ROWS = 0.005
SHARE_OF_UNDECIDED = 0.0013
SHARE_OF_REPEATS = 0.07
SHARE_OF_NEAR_COPIES = 0.08
SHARE_OF_OTHER_OPINIONS = 0.1
"""Share of copies whose label differs from the original's."""
SHARE_OF_COMMON_WORDS = 0.5
SHARE_OF_TELLING_WORDS = 0.17
HONESTY = 0.72
"""Share of class-specific words that match the sentence's label."""
LONGEST = 28
COPIED_FROM = 30
"""Maximum distance in rows between a copy and its original."""
NAMES = 4_000
BLANKS = (" ", "  ", "   ", "\n")

TOPICS = (
    "ablaze accident aftershock ambulance arson avalanche blaze blizzard bomb collapse collision crash cyclone danger "
    "debris deluge derailed disaster drought drowned dust earthquake emergency evacuation explosion famine fatal fire "
    "flames flood fog hail hazard heatwave hijack hurricane injured landslide lava lightning mudslide outbreak panic "
    "pandemic quarantine rescue rubble ruin sandstorm shelter sinkhole siren smoke storm survivors thunder tornado "
    "tragedy tremor trouble tsunami typhoon volcano wildfire windstorm wreck"
)
COMMON = (
    "the a of to in and is on for it that with as was at be this have from or had by but what were we when your can "
    "said there use an each which she do how their if will up other about out many then them these so some her would "
    "make like him into time has look two more go see no way could my than been now people i you he they all not"
)
NEWS = (
    "police officials killed residents hundreds reported crews authorities homes north county highway wounded homeless "
    "victims government damage forced evacuated warning minister hospital military troops confirmed investigators "
    "bodies missing spreads strikes near region thousands suspect officer trapped burned destroyed relief response "
    "province border migrants attack train airport toll firefighters search coast services declared struck southern"
)
EVERYDAY = (
    "love lol my life song album game feel really wanna gonna video watch playing music night best hair pretty "
    "favourite movie book funny lmao girls dinner coffee weekend boyfriend outfit exam homework party happy birthday "
    "omg literally mood cute phone season team fans goal guitar concert fashion recipe diet shoes makeup episode crush"
)
SYLLABLES = "ka lo mi ren sta vo dri pel na tu shi bra gon fe ly os mar chi ju wen"


def generate(path: Path, rows: int, seed: int = SEED) -> Path:
    """Write an archive of sample sentences.

    The same arguments give the same sentences, and on the same machine the same bytes.

    Parameters
    ----------
    path
        The file, which is written completely or not at all.
    rows
        Rows of the table, including bad rows.
    seed
        Random seed.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        `rows` is not positive.
    OSError
        The file cannot be written.
    """
    import numpy as np

    if rows < 1:
        raise ValueError(f"cannot generate {rows} demo sentences; at least 1 is needed")
    random = np.random.default_rng(seed)
    table = _sentences(random, rows)
    bad = round(rows * SHARE_OF_BAD_ROWS)
    for number, place in enumerate(sorted(random.choice(rows, size=bad, replace=False).tolist())):
        SPOILERS[number % len(SPOILERS)](table, place)
    return write_bytes(path, packed(_database(table)))


def packed(database: bytes, member: str = MEMBER) -> bytes:
    """Pack the bytes of a database into an archive, and return the bytes of the archive."""
    text = base64.encodebytes(database)
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w") as archive:
        described = tarfile.TarInfo(member)
        described.size = len(text)
        archive.addfile(described, io.BytesIO(text))
    return gzip.compress(tarred.getvalue(), mtime=0)


def _database(table: list[Row]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "db.sqlite"
        with closing(sqlite3.connect(file)) as database:
            database.execute('CREATE TABLE data ("index" INTEGER, text TEXT, choose_one TEXT, class_label INTEGER)')
            # Cast the bytes to TEXT, so that SQLite stores them as a text that is not valid UTF-8.
            database.executemany("INSERT INTO data VALUES (?, CAST(? AS TEXT), ?, ?)", table)
            database.execute('CREATE INDEX ix_data_index ON data ("index")')
            database.commit()
        return file.read_bytes()


def _sentences(random: np.random.Generator, rows: int) -> list[Row]:
    """Return valid rows of four values: row number, text, label, and number of the label."""
    import numpy as np

    topics = np.array(TOPICS.split(), dtype=object)
    topic = np.sort(random.integers(0, len(topics), rows))
    relevant = random.random(rows) < random.beta(1.2, 1.6, len(topics))[topic]
    texts = _texts(random, topics[topic], relevant)
    _copy(random, texts, relevant, topic)
    label = relevant.astype(int)
    label[random.permutation(rows)[: max(1, round(rows * SHARE_OF_UNDECIDED))]] = LABELS.index("Can't Decide")
    spaced = _spaced(random, texts)
    return [
        [place, text, LABELS[kind], kind] for place, (text, kind) in enumerate(zip(spaced, label.tolist(), strict=True))
    ]


def _texts(random: np.random.Generator, topic: NDArray[Any], relevant: NDArray[Any]) -> list[list[str]]:
    """Return the words of each sentence: common words, class-specific words, names, and the topic."""
    import numpy as np

    shape = (len(topic), LONGEST)

    def pick(words: list[str]) -> NDArray[Any]:
        # Pick the first words of the list most often, because word frequencies in natural language are skewed too.
        place = (len(words) ** random.random(shape)).astype(int) - 1
        found: NDArray[Any] = np.array(words, dtype=object)[place]
        return found

    sounds = np.array(SYLLABLES.split())[random.integers(0, len(SYLLABLES.split()), (NAMES, 3))]
    honest = random.random(shape) < HONESTY
    telling = np.where(honest == relevant[:, None], pick(NEWS.split()), pick(EVERYDAY.split()))
    kind = random.random(shape)
    words = np.where(kind < SHARE_OF_COMMON_WORDS, pick(COMMON.split()), pick(["".join(name) for name in sounds]))
    words = np.where(kind > 1 - SHARE_OF_TELLING_WORDS, telling, words)
    lengths = np.clip(random.normal(13, 6, len(topic)), 2, LONGEST).astype(int)
    words[np.arange(len(topic)), random.integers(0, lengths)] = topic
    return [found[:length] for found, length in zip(words.tolist(), lengths.tolist(), strict=True)]


def _copy(random: np.random.Generator, texts: list[list[str]], relevant: NDArray[Any], topic: NDArray[Any]) -> None:
    """Replace some sentences, in place, with copies or near-copies of an earlier sentence on the same topic."""
    rows = len(texts)
    chance, back = random.random(rows), 1 + random.integers(0, COPIED_FROM, rows)
    differs = random.random(rows) < SHARE_OF_OTHER_OPINIONS
    for place in range(rows):
        source = place - int(back[place])
        if chance[place] > SHARE_OF_REPEATS + SHARE_OF_NEAR_COPIES or source < 0 or topic[source] != topic[place]:
            continue
        relevant[place] = relevant[source] != differs[place]
        own = texts[place]
        texts[place] = list(texts[source])
        if chance[place] > SHARE_OF_REPEATS:
            texts[place] = own[:1] + texts[source][:-1] + own[-1:]


def _spaced(random: np.random.Generator, texts: list[list[str]]) -> list[str]:
    """Join words with irregular spaces between and around them, like those in the real archive."""
    gaps = random.choice(len(BLANKS), (len(texts), LONGEST + 2), p=(0.9, 0.06, 0.03, 0.01))
    ends = random.random((len(texts), 2)) < (0.2, 0.6)
    spaced = []
    for words, gap, (before, after) in zip(texts, gaps.tolist(), ends.tolist(), strict=True):
        text = "".join(word + BLANKS[blank] for word, blank in zip(words, gap, strict=False)).strip()
        spaced.append(" " * before + text + " " * after)
    return spaced


def _blank(table: list[Row], place: int) -> None:
    table[place][1] = "  "


def _unknown_label(table: list[Row], place: int) -> None:
    table[place][2] = "Maybe"


def _contradict(table: list[Row], place: int) -> None:
    table[place][3] = 1 - min(1, table[place][3])


def _unnumbered(table: list[Row], place: int) -> None:
    table[place][0] = None


def _renumbered(table: list[Row], place: int) -> None:
    table[place][0] = table[place - 1][0]


def _garbled(table: list[Row], place: int) -> None:
    table[place][1] = table[place][1].encode() + b"\xff\xfe"


SPOILERS = (_blank, _unknown_label, _contradict, _unnumbered, _renumbered, _garbled)

SENTENCES = Demo(generate, ".tar.gz")
