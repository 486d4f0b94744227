-- Peers of the VPN, as the operators set them; their keys lie with the secrets.
CREATE TABLE vpn_peers (
    name       TEXT PRIMARY KEY,
    public_key TEXT NOT NULL UNIQUE,
    document   TEXT NOT NULL,
    rotation   TEXT,
    changed    REAL NOT NULL
);
-- What the VPN has to know of its last life: when the clock was believed last.
CREATE TABLE vpn_facts (
    name  TEXT PRIMARY KEY,
    value REAL NOT NULL
);
