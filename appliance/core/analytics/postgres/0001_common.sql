-- How far each consumer group has come. Written in the transaction of the rows themselves: offset and rows agree, whatever ends.
CREATE TABLE stream_offsets (
    consumer_group text NOT NULL,
    topic          text NOT NULL,
    partition      integer NOT NULL,
    next_offset    bigint NOT NULL CHECK (next_offset >= 0),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer_group, topic, partition)
) WITH (fillfactor = 50);
-- Messages that could not be used, as they were. A body that is too large is cut; `size` is the whole one's.
CREATE TABLE dead_letters (
    letter_id      uuid NOT NULL UNIQUE,
    time           timestamptz NOT NULL DEFAULT now(),
    consumer_group text NOT NULL,
    topic          text NOT NULL,
    partition      integer NOT NULL,
    record_offset  bigint NOT NULL,
    key            bytea,
    reason         text NOT NULL,
    size           integer NOT NULL,
    body           bytea NOT NULL,
    PRIMARY KEY (consumer_group, topic, partition, record_offset)
);
CREATE INDEX dead_letters_time ON dead_letters (time);
