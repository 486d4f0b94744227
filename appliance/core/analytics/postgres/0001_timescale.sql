-- The tables of contracts.md, section 3, as hypertables: chunks, compression, retention, continuous aggregates.
CREATE TABLE device_metrics (
    time        timestamptz NOT NULL,
    device_id   text NOT NULL,
    metric_name text NOT NULL,
    value       float8 NOT NULL,
    tags        jsonb,
    event_id    uuid NOT NULL,
    UNIQUE (time, device_id, metric_name, event_id)
);
SELECT create_hypertable('device_metrics', 'time', chunk_time_interval => INTERVAL '1 day', create_default_indexes => false);
ALTER TABLE device_metrics SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'device_id, metric_name', timescaledb.compress_orderby = 'time DESC'
);
SELECT add_compression_policy('device_metrics', INTERVAL '7 days');
SELECT add_retention_policy('device_metrics', INTERVAL '30 days');
CREATE TABLE ai_inference_results (
    time              timestamptz NOT NULL,
    device_id         text NOT NULL,
    model_name        text NOT NULL,
    inference_time_ms float8 NOT NULL,
    result            jsonb NOT NULL,
    accuracy          float8,
    event_id          uuid NOT NULL,
    UNIQUE (time, event_id)
);
SELECT create_hypertable('ai_inference_results', 'time', chunk_time_interval => INTERVAL '1 day', create_default_indexes => false);
ALTER TABLE ai_inference_results SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'device_id, model_name', timescaledb.compress_orderby = 'time DESC'
);
SELECT add_compression_policy('ai_inference_results', INTERVAL '7 days');
SELECT add_retention_policy('ai_inference_results', INTERVAL '90 days');
CREATE TABLE sensor_data (
    time        timestamptz NOT NULL,
    device_id   text NOT NULL,
    sensor_type text NOT NULL,
    sensor_id   text NOT NULL,
    value       float8 NOT NULL,
    unit        text,
    data        jsonb,
    event_id    uuid NOT NULL,
    UNIQUE (time, event_id)
);
SELECT create_hypertable('sensor_data', 'time', chunk_time_interval => INTERVAL '1 hour', create_default_indexes => false);
ALTER TABLE sensor_data SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'device_id, sensor_id', timescaledb.compress_orderby = 'time DESC'
);
SELECT add_compression_policy('sensor_data', INTERVAL '1 day');
SELECT add_retention_policy('sensor_data', INTERVAL '7 days');
CREATE TABLE analytics_events (
    time       timestamptz NOT NULL,
    event_type text NOT NULL,
    device_id  text,
    event_data jsonb NOT NULL,
    event_id   uuid NOT NULL,
    UNIQUE (time, event_id)
);
SELECT create_hypertable('analytics_events', 'time', chunk_time_interval => INTERVAL '1 day', create_default_indexes => false);
ALTER TABLE analytics_events SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'event_type', timescaledb.compress_orderby = 'time DESC'
);
SELECT add_compression_policy('analytics_events', INTERVAL '7 days');
SELECT add_retention_policy('analytics_events', INTERVAL '30 days');
-- Not avg(): it adds up squares on the way, and one device's absurd numbers would stop the refresh of all others (22003).
-- A refresh reaches less far back than raw rows are kept: where their chunks are dropped, what was aggregated of them stays.
CREATE MATERIALIZED VIEW device_metrics_hourly
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 hour', time) AS bucket, device_id, metric_name,
       sum(value) / count(*) AS avg_value, min(value) AS min_value, max(value) AS max_value, count(*) AS count
FROM device_metrics GROUP BY 1, 2, 3
WITH NO DATA;
SELECT add_continuous_aggregate_policy('device_metrics_hourly', start_offset => INTERVAL '29 days',
    end_offset => INTERVAL '1 hour', schedule_interval => INTERVAL '30 minutes');
SELECT add_retention_policy('device_metrics_hourly', INTERVAL '365 days');
CREATE MATERIALIZED VIEW device_metrics_daily
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 day', time) AS bucket, device_id, metric_name,
       sum(value) / count(*) AS avg_value, min(value) AS min_value, max(value) AS max_value, count(*) AS count
FROM device_metrics GROUP BY 1, 2, 3
WITH NO DATA;
SELECT add_continuous_aggregate_policy('device_metrics_daily', start_offset => INTERVAL '29 days',
    end_offset => INTERVAL '1 day', schedule_interval => INTERVAL '6 hours');
SELECT add_retention_policy('device_metrics_daily', INTERVAL '365 days');
