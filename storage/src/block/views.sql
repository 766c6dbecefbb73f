-- The samples of this data directory as views, for DuckDB. Start it in this directory:
--   duckdb -init views.sql
--   SELECT metric, count(*), max(ts) FROM samples GROUP BY ALL ORDER BY 2 DESC;

-- Every sample. Decimals are kept as integer and divisor, everything else as a double; a row with neither value nor
-- histogram marks the end of a series.
CREATE OR REPLACE VIEW samples AS
SELECT * EXCLUDE (value_int, value_div, value), coalesce(value_int / value_div, value) AS value
FROM read_parquet('samples/*/*.parquet', union_by_name = true, hive_partitioning = true);

-- Every series, with its first and last sample.
CREATE OR REPLACE VIEW series AS
SELECT metric, labels, min(ts) AS first_ts, max(ts) AS last_ts, count(*) AS samples
FROM samples GROUP BY ALL;
