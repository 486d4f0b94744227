-- The tables of contracts.md, section 3, on PostgreSQL without the extension. Their partitions are made ahead of time and on
-- demand, and dropped when they are old (see core/streams/sink_upkeep.py).
CREATE TABLE device_metrics (
    time        timestamptz NOT NULL,
    device_id   text NOT NULL,
    metric_name text NOT NULL,
    value       float8 NOT NULL,
    tags        jsonb,
    event_id    uuid NOT NULL,
    UNIQUE (time, device_id, metric_name, event_id)
) PARTITION BY RANGE (time);
CREATE TABLE ai_inference_results (
    time              timestamptz NOT NULL,
    device_id         text NOT NULL,
    model_name        text NOT NULL,
    inference_time_ms float8 NOT NULL,
    result            jsonb NOT NULL,
    accuracy          float8,
    event_id          uuid NOT NULL,
    UNIQUE (time, event_id)
) PARTITION BY RANGE (time);
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
) PARTITION BY RANGE (time);
CREATE TABLE analytics_events (
    time       timestamptz NOT NULL,
    event_type text NOT NULL,
    device_id  text,
    event_data jsonb NOT NULL,
    event_id   uuid NOT NULL,
    UNIQUE (time, event_id)
) PARTITION BY RANGE (time);
-- What TimescaleDB's continuous aggregates would hold; kept in the transaction of the rows (see core/streams/sink_writer.py).
CREATE TABLE device_metrics_hourly (
    bucket      timestamptz NOT NULL,
    device_id   text NOT NULL,
    metric_name text NOT NULL,
    avg_value   float8 NOT NULL,
    min_value   float8 NOT NULL,
    max_value   float8 NOT NULL,
    count       bigint NOT NULL,
    PRIMARY KEY (bucket, device_id, metric_name)
) WITH (fillfactor = 70);
CREATE TABLE device_metrics_daily (
    bucket      timestamptz NOT NULL,
    device_id   text NOT NULL,
    metric_name text NOT NULL,
    avg_value   float8 NOT NULL,
    min_value   float8 NOT NULL,
    max_value   float8 NOT NULL,
    count       bigint NOT NULL,
    PRIMARY KEY (bucket, device_id, metric_name)
) WITH (fillfactor = 70);
