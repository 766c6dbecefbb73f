"""Reads sample files with pyarrow, Polars and DuckDB and compares what they see, bit by bit.

    python readers.py DATA          needs: pyarrow polars duckdb numpy
"""

import sys
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq


def with_pyarrow(path: Path):
    table = pq.ParquetFile(path).read()
    column = lambda name: table[name].to_numpy(zero_copy_only=False).astype(float)
    integer = column("value_int")
    values = np.where(np.isnan(integer), column("value"), integer / column("value_div"))
    return table["ts"].cast("int64").to_numpy(), values, table["labels"].to_pylist()


def with_polars(path: Path):
    value = pl.coalesce(pl.col("value_int") / pl.col("value_div"), pl.col("value"))
    frame = pl.read_parquet(path).select(pl.col("ts").dt.epoch("ms"), value.alias("value"), "labels")
    return frame["ts"].to_numpy(), frame["value"].to_numpy(), frame["labels"].to_list()


def with_duckdb(path: Path):
    rows = duckdb.execute(
        "SELECT epoch_ms(ts) AS ts, coalesce(value_int / value_div, value) AS value, labels FROM read_parquet(?)", [str(path)]
    ).fetchnumpy()
    return rows["ts"], np.ma.filled(rows["value"].astype(float), np.nan), list(rows["labels"])


def same(a, b) -> bool:
    # Null and NaN look alike to numpy; every other value must have the same bits.
    values = (a[1].view("u8") == b[1].view("u8")) | (np.isnan(a[1]) & np.isnan(b[1]))
    return bool((a[0] == b[0]).all() and values.all() and a[2] == b[2])


def main() -> int:
    failed = 0
    for path in sorted(Path(sys.argv[1]).glob("samples/*/*.parquet")):
        first = with_pyarrow(path)
        for name, read in [("polars", with_polars), ("duckdb", with_duckdb)]:
            agrees = same(first, read(path))
            failed += not agrees
            print(f"{path}: {len(first[0])} rows, {name} {'agrees' if agrees else 'DIFFERS'} with pyarrow")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
