"""Reads sample files with every library that is installed, and compares what they see, bit by bit.

    python readers.py DATA [EXPECTED]       needs some of: pyarrow polars duckdb pandas; and numpy

EXPECTED holds a JSON object a line, for each series of all files in turn: its `labels` as text, its timestamps `ts`, and
as `bits` those of its values as decimal text, null for a staleness marker. Without it the first library is the measure.
"""

import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np

NULL = np.float64("nan").view("u8")


def rows(ts, values, is_null, labels):
    """Timestamps, bits and whether there is a value, labels; one a row."""
    bits = np.ascontiguousarray(values, dtype="f8").view("u8")
    return np.asarray(ts, dtype="i8"), np.where(is_null, NULL, bits), np.asarray(is_null), list(labels)


def with_pyarrow(pyarrow, path):
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.ParquetFile(path).read()
    value = pc.coalesce(pc.divide(table["value_int"].cast("double"), table["value_div"]), table["value"])
    return rows(
        table["ts"].cast("int64").to_numpy(),
        value.fill_null(0.0).to_numpy(),
        value.is_null().to_numpy(),
        table["labels"].to_pylist(),
    )


def with_polars(pl, path):
    value = pl.coalesce(pl.col("value_int") / pl.col("value_div"), pl.col("value"))
    frame = pl.read_parquet(path).select(pl.col("ts").dt.epoch("ms"), value.alias("value"), "labels")
    value = frame["value"]
    return rows(frame["ts"].to_numpy(), value.fill_null(0.0).to_numpy(), value.is_null().to_numpy(), frame["labels"])


def with_duckdb(duckdb, path):
    query = "SELECT epoch_ms(ts) AS ts, coalesce(value_int / value_div, value) AS value, labels FROM read_parquet(?)"
    read = duckdb.execute(query, [str(path)]).fetchnumpy()
    value = read["value"]
    return rows(read["ts"], np.ma.getdata(value), np.ma.getmaskarray(value), read["labels"])


def with_pandas(pd, path):
    # Nulls of numbers are NaN here; so is every NaN, whose bits stay.
    frame = pd.read_parquet(path, columns=["ts", "labels", "value_int", "value_div", "value"])
    value = (frame["value_int"] / frame["value_div"]).fillna(frame["value"])
    ts = frame["ts"].dt.tz_localize(None).to_numpy().astype("datetime64[ms]").astype("i8")
    return rows(ts, value.to_numpy(), np.zeros(len(frame), dtype=bool), frame["labels"])


LIBRARIES = {"pyarrow": with_pyarrow, "polars": with_polars, "duckdb": with_duckdb, "pandas": with_pandas}


def expected_rows(lines, count):
    """What the next lines say of so many rows."""
    ts, bits, labels = [], [], []
    while len(ts) < count:
        series = json.loads(next(lines))
        ts += series["ts"]
        bits += series["bits"]
        labels += [series["labels"]] * len(series["ts"])
    is_null = np.array([one is None for one in bits])
    values = np.array([0 if one is None else int(one) for one in bits], dtype="u8").view("f8")
    return rows(ts, values, is_null, labels)


def same(name, measure, read):
    ts, bits, is_null, labels = measure
    if name == "pandas":
        nan = np.isnan(bits.view("f8")) & np.isnan(read[1].view("f8"))
        values = (bits == read[1]) | (nan & is_null)
    else:
        values = (bits == read[1]) & (is_null == read[2])
    return bool(len(ts) == len(read[0]) and (ts == read[0]).all() and values.all() and labels == read[3])


def main() -> int:
    installed = {}
    for name in LIBRARIES:
        try:
            installed[name] = import_module(name)
        except ImportError:
            print(f"{name} is not installed")
    expected = open(sys.argv[2], encoding="utf-8") if len(sys.argv) > 2 else None
    failed = 0
    for path in sorted(Path(sys.argv[1]).glob("samples/*/*.parquet")):
        read = {name: LIBRARIES[name](module, path) for name, module in installed.items()}
        first = next(iter(read.values()))
        measure = expected_rows(expected, len(first[0])) if expected else first
        for name, seen in read.items():
            agrees = same(name, measure, seen)
            failed += not agrees
            print(f"{path}: {len(seen[0])} rows, {name} {installed[name].__version__} {'agrees' if agrees else 'DIFFERS'}")
    if expected and expected.readline():
        print("there are more samples than the files hold")
        failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
