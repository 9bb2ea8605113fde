"""Measure how costs grow: the same work at 1, 10 and 100 times its size, and the exponent of each cost.

`make bench ARGS=--growth` measures everything, and `ARGS="--growth loans zone"` only some series. Each size runs in a
separate process. The measurements are stored in `growth.json` next to this module, from which the table and the plot in
docs/scale.md are generated. The largest size, 61 million loans, needs 42 GB of disk space.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.growth_loans import MEMORY, write_loans
from benchmarks.process_costs import Cost
from platform_assets.evaluation.plot_style import MODEL, OTHER, as_png, new_plot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

FACTORS = (1, 10, 100)
RESULTS = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
PLOT = PAGE.parent / "images" / "growth.png"
BEGIN, END = "<!-- growth: begin -->", "<!-- growth: end -->"
RATIOS = (0.25, 0.5, 1, 2, 4, 8)
FREE_SPARE = 5e9
MILLISECOND = 1e-3
LIBRARIES = ("duckdb", "deltalake", "pyarrow", "dagster", "pyspark")


@dataclass(frozen=True)
class Series:
    """Work that is measured at several sizes.

    Attributes
    ----------
    name, title
        Name on the command line, and title in the table.
    unit
        Unit of the sizes, for example `loans`.
    size
        The size at factor 1.
    command
        Takes the temporary folder and a size. Returns the name of the module that measures this size, followed by its
        arguments.
    prepare
        Takes the temporary folder and a factor, and writes the input into the folder.
    bytes_per_unit
        Disk space that one unit needs.
    factors
        The sizes to measure, as multiples of `size`.
    """

    name: str
    title: str
    unit: str
    size: int
    command: Callable[[Path, int], Sequence[object]]
    prepare: Callable[[Path, int], None] = lambda _folder, _factor: None
    bytes_per_unit: int = 1_000
    factors: Sequence[int] = FACTORS


@dataclass(frozen=True)
class Point:
    """The costs of a series at one size: a cost per kind of work, in the order in which they were measured."""

    series: str
    size: int
    costs: Sequence[Cost]


def _loans(rows: int, folder: Path, factor: int) -> None:
    write_loans(folder / "loans.csv", rows, factor)


def all_series(loans: int = 615_000, files: int = 1_000, batch: int = 21_000, runs: int = 200) -> list[Series]:
    """Return all series.

    Parameters
    ----------
    loans, files, batch, runs
        Sizes at factor 1.
    """
    module = "benchmarks.growth_"

    def of_loans(engine: str) -> Callable[[Path, int], Sequence[object]]:
        return lambda folder, _: (f"{module}loans", folder / "loans.csv", folder / "home", engine)

    return [
        Series("loans", "Loans on DuckDB", "loans", loans, of_loans("duckdb"), partial(_loans, loans), 600),
        Series("spark", "Loans on Spark", "loans", loans, of_loans("spark"), partial(_loans, loans), 600, FACTORS[:2]),
        Series("zone", "Landing zone", "files", files, lambda folder, size: (f"{module}files", "zone", folder, size)),
        Series(
            "predictions",
            "Stored predictions",
            "predictions",
            batch,
            lambda folder, size: (f"{module}files", "predictions", folder, size, batch),
        ),
        Series(
            "history",
            "Dagster's history",
            "runs",
            runs,
            lambda folder, size: (f"{module}history", folder, size),
            bytes_per_unit=200_000,
        ),
    ]


def run(names: Iterable[str] = (), factors: Sequence[int] = FACTORS, series: Sequence[Series] | None = None) -> None:
    """Measure the named series, or all of them; then print the table and write the documentation."""
    known = {one.name: one for one in series or all_series()}
    for name in [*names] or known:
        if name not in known:
            sys.exit(f"there is no series {name}; choose from {', '.join(known)}")
        if name == "spark" and (find_spec("pyspark") is None or shutil.which("java") is None):
            print("spark is skipped; to measure it, install Java and run `export EXTRAS=spark`")
            continue
        for factor in (factor for factor in known[name].factors if factor in factors):
            store(measure(known[name], factor))
    report(list(known.values()))


def measure(series: Series, factor: int) -> Point:
    """Measure a series at one size, in a separate process and a temporary folder."""
    size = series.size * factor
    with tempfile.TemporaryDirectory(prefix="growth-", ignore_cleanup_errors=True) as name:
        needed = size * series.bytes_per_unit + FREE_SPARE
        if shutil.disk_usage(name).free < needed:
            sys.exit(
                f"{series.title} at {size:,} {series.unit}: this measurement needs {needed / 1e9:.0f} GB of disk space "
                f"in {name}; set TMPDIR to a folder on a larger disk"
            )
        folder = Path(name)
        series.prepare(folder, factor)
        command = [sys.executable, "-m", *map(str, series.command(folder, size))]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PLATFORM_")}
        costs = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout
            for line in process.stdout:
                if line.startswith('{"what"'):
                    costs.append(Cost(**json.loads(line)))
                    print(f"{series.name} {size:,} {series.unit}: {line.strip()}", flush=True)
    if process.returncode:
        sys.exit(f"{series.title} at {size:,} {series.unit} failed with exit code {process.returncode}")
    return Point(series.name, size, costs)


def store(point: Point, results: Path = RESULTS) -> None:
    """Replace the stored measurements of one size."""
    stored = read(results)
    kept = [one for one in stored["points"] if (one["series"], one["size"]) != (point.series, point.size)]
    points = sorted([*kept, asdict(point)], key=lambda one: (one["series"], one["size"]))
    results.write_text(json.dumps({"machine": machine(), "points": points}, indent=1) + "\n")


def read(results: Path = RESULTS) -> dict[str, Any]:
    """Return the stored measurements: `machine` and `points`."""
    return json.loads(results.read_text()) if results.exists() else {"machine": "", "points": []}


def machine() -> str:
    """Return the number of cores, the memory, and the versions of Python and the libraries."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES if find_spec(name))
    return f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, Python {platform.python_version()}, {libraries}"


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return the exponent b of costs = a * sizes ** b, by least squares on logarithms; NaN with fewer than 2 sizes."""
    if len(sizes) < 2 or min(costs) <= 0:
        return math.nan
    x, y = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((one - middle_x) * (other - middle_y) for one, other in zip(x, y, strict=True))
    return above / sum((one - middle_x) ** 2 for one in x)


@dataclass(frozen=True)
class Growth:
    """Costs of one kind of work, at several sizes. A series may measure several kinds of work.

    Attributes
    ----------
    series
        The measured series.
    sizes, costs
        The sizes, and the cost at each size.
    """

    series: Series
    sizes: Sequence[int]
    costs: Sequence[Cost]

    @property
    def is_whole(self) -> bool:
        """Whether the amount of work grows with the size. If False, it is the same at all sizes."""
        return all(cost.work == size for cost, size in zip(self.costs, self.sizes, strict=True))

    def exponent_of(self, what: str) -> float:
        """Return the exponent with which `seconds`, `cpu_seconds` or `peak_mib` grows with the size."""
        return exponent(self.sizes, [getattr(cost, what) for cost in self.costs])


def growths(known: Sequence[Series], results: Mapping[str, Any]) -> list[Growth]:
    """Group stored measurements by series and kind of work."""
    found = []
    for series in known:
        points = [one for one in results["points"] if one["series"] == series.name]
        for what in dict.fromkeys(cost["what"] for one in points for cost in one["costs"]):
            pairs = [(one["size"], Cost(**cost)) for one in points for cost in one["costs"] if cost["what"] == what]
            found.append(Growth(series, [size for size, _ in pairs], [cost for _, cost in pairs]))
    return found


def report(known: Sequence[Series], results: Path = RESULTS, page: Path = PAGE, plot: Path = PLOT) -> None:
    """Print the table, and write it and the plot into the documentation."""
    stored = read(results)
    found = growths(known, stored)
    text = table(found, stored["machine"])
    print(f"\n{text}")
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}")
    plot.write_bytes(drawn(found))


def table(found: Sequence[Growth], facts: str) -> str:
    """Return the measurements as a Markdown table."""
    lines = [
        f"Measured on {facts}; DuckDB limited to {MEMORY}. If the machine did other work, compare only CPU seconds.",
        "",
        "| work | size | CPU s | wall s | CPU per unit | peak MiB | exponent, CPU | exponent, wall |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for growth in found:
        for place, (size, cost) in enumerate(zip(growth.sizes, growth.costs, strict=True)):
            last = place == len(growth.sizes) - 1
            slopes = [growth.exponent_of(kind) if last else math.nan for kind in ("cpu_seconds", "seconds")]
            cells = [
                f"{growth.series.title}: {cost.what}" if place == 0 else "",
                f"{size:,} {growth.series.unit}",
                f"{cost.cpu_seconds:,.2f}",
                f"{cost.seconds:,.2f}",
                _per_unit(cost.cpu_seconds / cost.work),
                "" if math.isnan(cost.peak_mib) else f"{cost.peak_mib:,.0f}",
                *("" if math.isnan(slope) else f"{slope:.2f}" for slope in slopes),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _per_unit(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f} µs" if seconds < MILLISECOND else f"{seconds * 1e3:,.1f} ms"


def drawn(found: Sequence[Growth]) -> bytes:
    """Return the plot as PNG: CPU time per unit of work by size, relative to the smallest size."""
    whole = [growth for growth in found if len(growth.sizes) > 1]
    largest = max((growth.exponent_of("cpu_seconds") for growth in whole if growth.is_whole), default=math.nan)
    with new_plot("Growth of costs", f"largest exponent {largest:.2f}", "CPU time per unit, relative to 1x") as axes:
        for growth in whole:
            per_unit = [cost.cpu_seconds / cost.work for cost in growth.costs]
            axes.plot(
                [size / growth.series.size for size in growth.sizes],
                [one / per_unit[0] for one in per_unit],
                marker="o",
                color=MODEL if growth.is_whole else OTHER,
                linewidth=1.5,
            )
        axes.set(xscale="log", yscale="log", xlabel="size", ylabel="CPU time per unit of work")
        axes.set_xticks(FACTORS, [f"{factor}x" for factor in FACTORS])
        axes.set_yticks(RATIOS, [f"{ratio:g}" for ratio in RATIOS])
        axes.minorticks_off()
        axes.plot([], [], color=MODEL, label="work that grows with the size")
        axes.plot([], [], color=OTHER, label="one operation on a larger state")
        return as_png(axes, columns=2)
