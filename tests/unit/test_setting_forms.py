"""Settings that cannot work are refused, by file, variable and command alike; a secret in one is never repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import config, configfile, paths
from appliance.errors import ConfigError

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("memory.disk_high_percent", "10", "disk_low_percent (85) is not below disk_high_percent (10)"),
        ("memory.disk_low_percent", "95", "is not below"),
        ("s3.endpoint", "http://foo/bar", "no HOST or HOST:PORT"),
        ("s3.endpoint", "foo:99999", "no HOST or HOST:PORT"),
        ("s3.bucket", "BAD_bucket!", "no bucket of S3"),
        ("s3.bucket", "192.168.0.1", "no bucket of S3"),
        ("nas.path", "mnt/nas", "does not begin at /"),
        ("memory.redis_url", "foo", "no redis:// address"),
        ("memory.redis_url", "redis://", "no redis:// address"),
        ("memory.redis_max_memory", "99999999999gb", "this much memory"),
        ("memory.redis_max_memory", "1kb", "this much memory"),
        ("documents.url", "https://x.supabase.co", "no postgresql:// address"),
        ("documents.url", "postgresql://u@h:port/d", "no postgresql:// address"),
        ("kafka.bootstrap_servers", "foo", "no list of HOST:PORT"),
        ("kafka.bootstrap_servers", "a:9092,,b:9092", "no list of HOST:PORT"),
        ("kafka.bootstrap_servers", "kafka://a:9092", "no list of HOST:PORT"),
        ("analytics.host", "db:5432", "no name or address"),
        ("analytics.host", "postgresql://db", "no name or address"),
        ("health.check_interval_seconds", "nan", "nan is no number"),
        ("memory.absent_seconds", "inf", "inf is no number"),
    ],
)
def test_what_cannot_work_is_refused(home: Path, key: str, value: str, told: str) -> None:
    where = paths.find()
    with pytest.raises(ConfigError) as caught:
        configfile.change(where, key, value, {})
    assert told in caught.value.message
    assert key.rpartition(".")[0] in caught.value.message
    assert caught.value.next_step
    assert not where.config.exists()


@pytest.mark.parametrize(
    ("key", "value", "secret"),
    [
        ("documents.url", f"postgresql://me:{SECRET}@h/d", "SUPABASE_KEY"),
        ("documents.url", f"postgresql://me@h/d?password={SECRET}", "SUPABASE_KEY"),
        ("memory.redis_url", f"redis://:{SECRET}@h:6379/0", "REDIS_PASSWORD"),
        ("kafka.bootstrap_servers", f"me:{SECRET}@h:9092", "KAFKA_PASSWORD"),
        ("analytics.host", f"me:{SECRET}@h", "POSTGRES_PASSWORD"),
    ],
)
def test_a_password_is_refused_and_not_repeated(home: Path, key: str, value: str, secret: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configfile.change(paths.find(), key, value, {})
    assert secret in caught.value.next_step
    assert SECRET not in str(caught.value)
    names = {path: name for name, path in config.env_names().items()}
    if variable := names.get(tuple(key.split("."))):
        with pytest.raises(ConfigError, match=variable) as told:
            config.load(paths.find(), {variable: value})
        assert SECRET not in str(told.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("s3.endpoint", "10.8.0.14:9000"), ("s3.endpoint", "s3.example.org"), ("s3.endpoint", "[::1]:9000"),
        ("s3.endpoint", ""), ("s3.bucket", "prime-spark.ai"), ("nas.path", "/srv/nas"), ("memory.redis_url", "redis://10.0.0.5:6379/0"),
        ("memory.redis_url", "unix:///run/redis.sock"), ("memory.redis_url", "rediss://me@h"),
        ("memory.redis_max_memory", "512MB"), ("documents.url", "postgresql://me@h:5432/d?sslmode=require"),
        ("documents.url", "postgresql://%75@[::1]/d"), ("kafka.bootstrap_servers", "a:9092, [::1]:9093"),
        ("analytics.host", "10.8.0.14"), ("analytics.host", "::1"), ("analytics.host", "/var/run/postgresql"),
    ],
)  # fmt: skip
def test_what_works_is_taken(home: Path, key: str, value: str) -> None:
    configfile.change(paths.find(), key, value, {})
    group, name = key.split(".")
    assert str(getattr(getattr(config.load(paths.find(), {}), group), name)) == value
