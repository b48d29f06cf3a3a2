-- Version 1. Times are milliseconds since the Unix epoch. Every BLOB but a digest is sealed.

CREATE TABLE installation (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    instance TEXT NOT NULL,
    keyring  BLOB NOT NULL
) STRICT;

-- How far the database has come. The file beside it remembers the count, so that an old copy is known for what it is.
CREATE TABLE history (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    -- Moves whenever a grant comes, is replaced or goes.
    commits     INTEGER NOT NULL,
    -- 1 once there is a mark beside the database.
    marked      INTEGER NOT NULL,
    -- Set while this may be an old copy: grants that were issued before are held.
    held_before INTEGER,
    held_at     INTEGER,
    held_why    TEXT
) STRICT;

INSERT INTO history (one, commits, marked) VALUES (1, 0, 0);

CREATE TABLE probes (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at  INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    id           TEXT PRIMARY KEY,
    tenant       TEXT NOT NULL,
    user         TEXT NOT NULL,
    caller       TEXT NOT NULL,
    purpose      TEXT,
    provider     TEXT NOT NULL,
    scopes       TEXT NOT NULL,
    reconnect    TEXT,
    -- How the consent comes: authorization_code or device_code.
    grant_type   TEXT NOT NULL,
    user_code    TEXT NOT NULL,
    progress     TEXT NOT NULL,
    account_id   TEXT,
    account_name TEXT,
    granted      TEXT,
    browser      BLOB,
    connection   TEXT,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    ended_at     INTEGER
) STRICT;

CREATE INDEX sessions_of ON sessions (tenant, user, expires_at) WHERE ended_at IS NULL;
CREATE INDEX sessions_overdue ON sessions (expires_at) WHERE ended_at IS NULL;
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE openings (
    session        TEXT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    state          BLOB NOT NULL UNIQUE,
    browser        BLOB NOT NULL,
    verifier       BLOB,
    nonce          TEXT,
    redirect_uri   TEXT NOT NULL,
    token_endpoint TEXT NOT NULL
) STRICT;

CREATE TABLE device_openings (
    session        TEXT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    code           BLOB NOT NULL,
    browser        BLOB NOT NULL,
    token_endpoint TEXT NOT NULL,
    -- Milliseconds.
    interval       INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    -- The token response that the code was spent for, until its account is known.
    answer         BLOB,
    answer_sent_at INTEGER
) STRICT;

CREATE TABLE pending_grants (
    session            TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    slot               TEXT NOT NULL,
    access             BLOB NOT NULL,
    refresh            BLOB,
    scopes             TEXT NOT NULL,
    issued_at          INTEGER NOT NULL,
    expires_at         INTEGER,
    refresh_expires_at INTEGER,
    -- 1 if it came for a session that cannot hold it: it is to be given back, however the session ends.
    unwanted           INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX pending_grants_held ON pending_grants (session, slot) WHERE unwanted = 0;
CREATE INDEX pending_grants_by_session ON pending_grants (session);

CREATE TABLE connections (
    id           TEXT PRIMARY KEY,
    tenant       TEXT NOT NULL,
    user         TEXT NOT NULL,
    provider     TEXT NOT NULL,
    account_id   TEXT NOT NULL,
    account_name TEXT NOT NULL,
    label        TEXT,
    is_default   INTEGER NOT NULL DEFAULT 0,
    state        TEXT NOT NULL,
    reason       TEXT,
    epoch        INTEGER NOT NULL,
    -- How the consent of this epoch came, and so how the client proves itself when it renews what it brought.
    grant_type   TEXT NOT NULL,
    scopes       TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    confirmed_at INTEGER NOT NULL,
    -- When the provider gave what that consent brought.
    given_at     INTEGER NOT NULL,
    used_at      INTEGER,
    -- For which point in time the latest warning was due.
    warned       INTEGER,
    -- What the provider wants to see proven in the next authorization: JSON in its own words.
    claims       TEXT,
    -- From the revocation until its grants are gone at the provider too: 1, or 2 if more than this connection is to go.
    revoking     INTEGER NOT NULL DEFAULT 0
) STRICT;

-- One subject has one connection for each account, until it is revoked.
CREATE UNIQUE INDEX connections_account ON connections (tenant, user, provider, account_id) WHERE state <> 'revoked';
CREATE UNIQUE INDEX connections_label ON connections (tenant, user, provider, label) WHERE label IS NOT NULL;
CREATE UNIQUE INDEX connections_default ON connections (tenant, user, provider) WHERE is_default = 1;
CREATE INDEX connections_revoking ON connections (id) WHERE revoking > 0;
CREATE INDEX connections_waiting ON connections (id) WHERE state = 'needs_reconnect';

CREATE TABLE grants (
    connection         TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE,
    slot               TEXT NOT NULL,
    -- Where it is from, as its connection says: each provider has its own queue of what is due.
    provider           TEXT NOT NULL,
    epoch              INTEGER NOT NULL,
    generation         INTEGER NOT NULL,
    token_id           TEXT NOT NULL,
    access             BLOB NOT NULL,
    refresh            BLOB,
    scopes             TEXT NOT NULL,
    issued_at          INTEGER NOT NULL,
    expires_at         INTEGER,
    refresh_expires_at INTEGER,
    renew_at           INTEGER,
    -- When it needs a person whatever is done, and when unless it is renewed before.
    ends_at            INTEGER,
    lapses_at          INTEGER,
    lease_boot         TEXT,
    lease_until        INTEGER,
    failures           INTEGER NOT NULL DEFAULT 0,
    last_failure       TEXT,
    -- The provider's own number for it, if the definition explained that when it came.
    failure_number     INTEGER,
    -- 1 if an answer to this refresh token may have been lost: it may be spent.
    uncertain          INTEGER NOT NULL DEFAULT 0,
    -- How often in a row the provider refused this refresh token for good.
    rejections         INTEGER NOT NULL DEFAULT 0,
    -- When the schedule is to look at it: renew_at, or later while a lease runs; NULL if the connection does not serve.
    due_at             INTEGER,
    -- When it will need a person if nothing changes. A renewal that fails, or comes too late, does not help.
    needs_person_at    INTEGER GENERATED ALWAYS AS (
        CASE WHEN lapses_at IS NOT NULL AND (failures > 0 OR renew_at IS NULL OR renew_at >= lapses_at)
             THEN min(lapses_at, coalesce(ends_at, lapses_at))
             ELSE ends_at END
    ) VIRTUAL,
    PRIMARY KEY (connection, slot)
) STRICT;

-- So that what a dead run left behind is found without reading everything.
CREATE INDEX grants_leased ON grants (lease_until) WHERE lease_until IS NOT NULL;
-- So that what the clock was set back behind is found in the same way, and who waits after a failure.
CREATE INDEX grants_issued ON grants (issued_at);
CREATE INDEX grants_failing ON grants (renew_at) WHERE failures > 0;
CREATE INDEX grants_due ON grants (provider, due_at, connection, slot) WHERE due_at IS NOT NULL;
CREATE INDEX grants_ending ON grants (needs_person_at, connection, slot) WHERE needs_person_at IS NOT NULL;

CREATE TRIGGER grants_come AFTER INSERT ON grants BEGIN UPDATE history SET commits = commits + 1; END;
CREATE TRIGGER grants_are_replaced AFTER UPDATE OF generation ON grants BEGIN UPDATE history SET commits = commits + 1; END;
CREATE TRIGGER grants_go AFTER DELETE ON grants BEGIN UPDATE history SET commits = commits + 1; END;

-- The audit log, a chain of hashes. Entries come at the end and go at the beginning; none is ever changed.
CREATE TABLE audit (
    seq   INTEGER PRIMARY KEY,
    hash  BLOB NOT NULL,
    -- JSON, to the byte as it was hashed.
    entry TEXT NOT NULL
) STRICT;

-- The last entry of each day, authenticated under the keyring.
CREATE TABLE audit_checkpoints (
    seq  INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    at   INTEGER NOT NULL,
    mac  BLOB NOT NULL
) STRICT;

-- Where the log begins (the entry before the first that is kept) and ends, authenticated.
CREATE TABLE audit_head (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    base_seq  INTEGER NOT NULL,
    base_hash BLOB NOT NULL,
    base_at   INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    hash      BLOB NOT NULL,
    at        INTEGER NOT NULL,
    mac       BLOB NOT NULL
) STRICT;
