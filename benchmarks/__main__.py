"""Run all benchmarks, one after the other: `python -m benchmarks`. With `--growth`, run only `growth.py`."""

from __future__ import annotations

import argparse

from benchmarks import (
    arxiv_results,
    credit_features,
    definitions,
    distances,
    gaussian_process,
    growth,
    landed_files,
    landing_zone,
    reads,
    scoring,
    sentence_relevance,
    serving,
    serving_start,
    shadow,
    small_tables,
    sql_load,
)

BENCHMARKS = (
    credit_features.run,
    definitions.main,
    distances.run,
    small_tables.run,
    landing_zone.run,
    reads.run,
    scoring.run,
    gaussian_process.run,
    serving_start.run,
    serving.run,
    shadow.run,
    sentence_relevance.run,
    arxiv_results.run,
    sql_load.run,
    landed_files.run,
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run the benchmarks against hand-written code.")
    parser.add_argument(
        "--growth",
        nargs="*",
        metavar="SERIES",
        help="measure how costs grow: the named series, or all if none is named",
    )
    parser.add_argument("--factors", nargs="+", type=int, default=growth.FACTORS, help="sizes for --growth")
    chosen = parser.parse_args()
    if chosen.growth is not None:
        growth.run(chosen.growth, chosen.factors)
    else:
        for run in BENCHMARKS:
            run()
