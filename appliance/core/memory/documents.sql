-- version 1
CREATE FUNCTION prime_spark.memory_words(key text, tags text[], body jsonb, body_text text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    -- The body's own text form shows letters that the original may have escaped; \n and the like part words.
    -- 100 000 characters stay within what a tsvector holds, whatever they are.
    SELECT setweight(to_tsvector('simple'::regconfig, key), 'A')
        || setweight(to_tsvector('simple'::regconfig, left(array_to_string(tags, ' '), 10000)), 'B')
        || setweight(to_tsvector('simple'::regconfig,
               left(regexp_replace(coalesce(body::text, body_text), '\\[nrtbf"\\/]', ' ', 'g'), 100000)), 'D')
$$;

CREATE TABLE prime_spark.memory_documents (
    namespace text NOT NULL,
    key text NOT NULL,
    key_id text NOT NULL UNIQUE,
    kind text NOT NULL,
    version text NOT NULL,
    parent text NOT NULL,
    checksum text NOT NULL,
    -- For queries; NULL where jsonb refuses what JSON allows (\u0000, lone surrogates, endless numbers), and for tombstones.
    body jsonb,
    -- The value as it was written, to the byte.
    body_text text NOT NULL,
    size integer NOT NULL,
    modified timestamptz NOT NULL,
    expires timestamptz,
    tags text[] NOT NULL,
    device text NOT NULL,
    deleted boolean NOT NULL,
    search tsvector GENERATED ALWAYS AS (prime_spark.memory_words(key, tags, body, body_text)) STORED,
    PRIMARY KEY (namespace, key)
);

CREATE INDEX memory_documents_tags ON prime_spark.memory_documents USING gin (tags);
CREATE INDEX memory_documents_body ON prime_spark.memory_documents USING gin (body jsonb_path_ops);
CREATE INDEX memory_documents_search ON prime_spark.memory_documents USING gin (search);
