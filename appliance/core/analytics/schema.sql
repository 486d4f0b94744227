-- The tables of contracts.md, section 3, as the embedded store has them. Every row carries its event's id.
CREATE TABLE IF NOT EXISTS device_metrics (
    time        TIMESTAMPTZ NOT NULL,
    device_id   VARCHAR NOT NULL,
    metric_name VARCHAR NOT NULL,
    value       DOUBLE NOT NULL,
    tags        JSON,
    event_id    UUID NOT NULL
);
CREATE TABLE IF NOT EXISTS ai_inference_results (
    time              TIMESTAMPTZ NOT NULL,
    device_id         VARCHAR NOT NULL,
    model_name        VARCHAR NOT NULL,
    inference_time_ms DOUBLE NOT NULL,
    result            JSON NOT NULL,
    accuracy          DOUBLE,
    event_id          UUID NOT NULL
);
CREATE TABLE IF NOT EXISTS analytics_events (
    time       TIMESTAMPTZ NOT NULL,
    event_type VARCHAR NOT NULL,
    device_id  VARCHAR,
    event_data JSON NOT NULL,
    event_id   UUID NOT NULL
);
-- Roll-ups: kept sums, so that further samples of a bucket can be added.
CREATE TABLE IF NOT EXISTS device_metrics_minute (
    bucket TIMESTAMPTZ, device_id VARCHAR, metric_name VARCHAR,
    sum_value DOUBLE, min_value DOUBLE, max_value DOUBLE, count BIGINT,
    PRIMARY KEY (bucket, device_id, metric_name)
);
CREATE TABLE IF NOT EXISTS device_metrics_hourly (
    bucket TIMESTAMPTZ, device_id VARCHAR, metric_name VARCHAR,
    sum_value DOUBLE, min_value DOUBLE, max_value DOUBLE, count BIGINT,
    PRIMARY KEY (bucket, device_id, metric_name)
);
-- How far each journal has been taken in: written in the transaction of the rows themselves.
CREATE TABLE IF NOT EXISTS cursors (journal VARCHAR PRIMARY KEY, seq BIGINT NOT NULL);
-- The event at that number: a journal that has another one there is another journal.
ALTER TABLE cursors ADD COLUMN IF NOT EXISTS event_id VARCHAR;
