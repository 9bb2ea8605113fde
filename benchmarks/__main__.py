"""Run all benchmarks, one after the other: `python -m benchmarks`."""

from __future__ import annotations

from benchmarks import (
    arxiv_results,
    credit_features,
    definitions,
    distances,
    gaussian_process,
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
    for run in BENCHMARKS:
        run()
