-- The log's file, events.db. Frozen by its first real row: only added to, under a raised user_version.
-- Set before this script, at creation: page_size 4096, auto_vacuum INCREMENTAL, journal_mode WAL.
BEGIN IMMEDIATE;

PRAGMA application_id = 0x41434c47;  -- "ACLG"
PRAGMA user_version = 1;

-- Facts about this file: `node`, the random id that every origin written here begins with.
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- Names that rows repeat, as small integers.
CREATE TABLE origins (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE types (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

-- The ledger: one event a row. `data` is the whole flat JSON object, envelope included, as exact bytes; the other
-- columns are indexes that must agree with it.
CREATE TABLE ledger (
    position INTEGER PRIMARY KEY,  -- this file's order over both lanes: 1, 2, 3…
    origin   INTEGER NOT NULL,     -- origins.id: the incarnation that wrote it
    oseq     INTEGER NOT NULL,     -- 1, 2, 3… of that origin
    stream   INTEGER NOT NULL,     -- streams.id
    version  INTEGER NOT NULL,     -- 1, 2, 3… of that stream
    type     INTEGER NOT NULL,     -- types.id
    at       INTEGER NOT NULL,     -- microseconds since 1970 UTC, hybrid logical clock
    codec    INTEGER NOT NULL,     -- of `data`: 0 plain
    data     BLOB NOT NULL,
    digest   BLOB NOT NULL,        -- sha256(digest of the origin's previous event + data)
    UNIQUE (stream, version),
    UNIQUE (origin, oseq)
);

-- The frames: verbatim pieces of a long answer as they arrived, several to a row. The rowid is the only index, since
-- these rows are by far the most: a run is read backwards from its newest row, along `back`.
CREATE TABLE frames (
    position   INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,   -- position of the event that opened the run
    back       INTEGER NOT NULL,   -- distance to the run's previous row, 0 for its first
    frame      INTEGER NOT NULL,   -- number of the first frame in `bytes`, from 1
    count      INTEGER NOT NULL,   -- how many frames `bytes` holds
    offset_us  INTEGER NOT NULL,   -- microseconds since the run began
    codec      INTEGER NOT NULL,   -- of `bytes`: see frames.py
    bytes      BLOB NOT NULL
);

-- Large parts of events, by content. An event holds the digest and is committed no earlier than its blobs.
CREATE TABLE blobs (
    digest BLOB NOT NULL UNIQUE,   -- sha256 of the content
    codec  INTEGER NOT NULL,       -- of `bytes`: 0 plain
    bytes  BLOB NOT NULL
);

-- Segments that were archived. Rows may be deleted only by the transaction that seals their segment:
-- it appends `segment_sealed`, inserts here with `deleting` = 1, deletes, and sets `deleting` to NULL. The deferred
-- reference into a table that stays empty refuses to commit a row that is still deleting, so the door cannot be left open.
CREATE TABLE never (id INTEGER PRIMARY KEY CHECK (id IS NULL));
CREATE TABLE sealed (
    position INTEGER PRIMARY KEY,  -- of the segment_sealed event
    through  INTEGER NOT NULL,     -- the last position of the segment
    deleting INTEGER REFERENCES never (id) DEFERRABLE INITIALLY DEFERRED
);

CREATE TRIGGER sealed_needs_its_event BEFORE INSERT ON sealed
WHEN NOT EXISTS (
    SELECT 1 FROM ledger JOIN types ON types.id = ledger.type
    WHERE ledger.position = NEW.position AND NEW.position = (SELECT max(position) FROM ledger)
      AND types.name = 'segment_sealed' AND NEW.through < NEW.position
      AND json_extract(CAST(ledger.data AS TEXT), '$.through') = NEW.through)
BEGIN SELECT RAISE(ABORT, 'sealed: only what the segment_sealed event at the head says'); END;

CREATE TRIGGER sealed_only_closes BEFORE UPDATE ON sealed
WHEN NEW.deleting IS NOT NULL OR NEW.position <> OLD.position OR NEW.through <> OLD.through
BEGIN SELECT RAISE(ABORT, 'sealed: append-only'); END;

CREATE TRIGGER sealed_stays BEFORE DELETE ON sealed
BEGIN SELECT RAISE(ABORT, 'sealed: append-only'); END;

CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger
BEGIN SELECT RAISE(ABORT, 'ledger: append-only'); END;

CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger
WHEN NOT EXISTS (SELECT 1 FROM sealed WHERE deleting = 1 AND OLD.position <= through)
BEGIN SELECT RAISE(ABORT, 'ledger: append-only; only the transaction that seals a segment may delete it'); END;

CREATE TRIGGER frames_no_update BEFORE UPDATE ON frames
BEGIN SELECT RAISE(ABORT, 'frames: append-only'); END;

CREATE TRIGGER frames_no_delete BEFORE DELETE ON frames
WHEN NOT EXISTS (SELECT 1 FROM sealed WHERE deleting = 1 AND OLD.position <= through)
BEGIN SELECT RAISE(ABORT, 'frames: append-only; only the transaction that seals a segment may delete it'); END;

CREATE TRIGGER blobs_no_update BEFORE UPDATE ON blobs
BEGIN SELECT RAISE(ABORT, 'blobs: append-only'); END;

CREATE TRIGGER blobs_no_delete BEFORE DELETE ON blobs
WHEN NOT EXISTS (SELECT 1 FROM sealed WHERE deleting = 1)
BEGIN SELECT RAISE(ABORT, 'blobs: append-only; only the transaction that seals a segment may delete them'); END;

CREATE TRIGGER origins_no_update BEFORE UPDATE ON origins
BEGIN SELECT RAISE(ABORT, 'origins: append-only'); END;

CREATE TRIGGER origins_no_delete BEFORE DELETE ON origins
BEGIN SELECT RAISE(ABORT, 'origins: append-only'); END;

CREATE TRIGGER streams_no_update BEFORE UPDATE ON streams
BEGIN SELECT RAISE(ABORT, 'streams: append-only'); END;

CREATE TRIGGER streams_no_delete BEFORE DELETE ON streams
WHEN NOT EXISTS (SELECT 1 FROM sealed WHERE deleting = 1)
BEGIN SELECT RAISE(ABORT, 'streams: append-only; only the transaction that seals a segment may delete them'); END;

CREATE TRIGGER types_no_update BEFORE UPDATE ON types
BEGIN SELECT RAISE(ABORT, 'types: append-only'); END;

CREATE TRIGGER types_no_delete BEFORE DELETE ON types
BEGIN SELECT RAISE(ABORT, 'types: append-only'); END;

-- For people with a SQLite shell.
CREATE VIEW events AS
SELECT ledger.position, origins.name AS origin, oseq, streams.name AS stream, version, types.name AS type,
       strftime('%Y-%m-%dT%H:%M:%S', at / 1000000, 'unixepoch') || printf('.%06dZ', at % 1000000) AS time,
       CASE codec WHEN 0 THEN CAST(data AS TEXT) END AS data, lower(hex(digest)) AS digest
FROM ledger
CROSS JOIN origins ON origins.id = ledger.origin
CROSS JOIN streams ON streams.id = ledger.stream
CROSS JOIN types ON types.id = ledger.type;

COMMIT;
