-- What version 2 of events.db adds: the archive's segments, and what live rows no longer say once theirs are archived.
BEGIN IMMEDIATE;

PRAGMA user_version = 2;

-- The file of a sealed segment: `archive/<first>-<through>.segment`. Segments follow one another without a gap.
CREATE TABLE segments (
    position INTEGER PRIMARY KEY REFERENCES sealed (position),
    first    INTEGER NOT NULL UNIQUE,
    through  INTEGER NOT NULL UNIQUE,
    digest   BLOB NOT NULL           -- sha256 of the file
);

-- Segments up to `through` were dropped, as the event at `position` says.
CREATE TABLE dropped (
    position INTEGER PRIMARY KEY,
    through  INTEGER NOT NULL
);

-- Of every stream with archived events: the last version there, and the positions of the first and last of them.
CREATE TABLE archived_streams (
    stream  INTEGER PRIMARY KEY,     -- streams.id
    version INTEGER NOT NULL,
    first   INTEGER NOT NULL,
    last    INTEGER NOT NULL
);

-- Of every origin with archived events: its first and last of them. From `digest` its chain goes on.
CREATE TABLE archived_origins (
    origin     INTEGER PRIMARY KEY,  -- origins.id
    first_oseq INTEGER NOT NULL,
    first      INTEGER NOT NULL,
    oseq       INTEGER NOT NULL,
    last       INTEGER NOT NULL,
    digest     BLOB NOT NULL
);

CREATE TRIGGER segments_no_update BEFORE UPDATE ON segments
BEGIN SELECT RAISE(ABORT, 'segments: append-only'); END;

CREATE TRIGGER segments_no_delete BEFORE DELETE ON segments
BEGIN SELECT RAISE(ABORT, 'segments: append-only'); END;

CREATE TRIGGER dropped_no_update BEFORE UPDATE ON dropped
BEGIN SELECT RAISE(ABORT, 'dropped: append-only'); END;

CREATE TRIGGER dropped_no_delete BEFORE DELETE ON dropped
BEGIN SELECT RAISE(ABORT, 'dropped: append-only'); END;

CREATE TRIGGER archived_streams_no_update BEFORE UPDATE ON archived_streams
WHEN NOT EXISTS (SELECT 1 FROM sealed WHERE deleting = 1) OR NEW.version <= OLD.version
BEGIN SELECT RAISE(ABORT, 'archived_streams: moved only on, by the transaction that seals a segment'); END;

CREATE TRIGGER archived_streams_no_delete BEFORE DELETE ON archived_streams
BEGIN SELECT RAISE(ABORT, 'archived_streams: append-only'); END;

CREATE TRIGGER archived_origins_no_update BEFORE UPDATE ON archived_origins
WHEN NOT EXISTS (SELECT 1 FROM sealed WHERE deleting = 1) OR NEW.oseq <= OLD.oseq
BEGIN SELECT RAISE(ABORT, 'archived_origins: moved only on, by the transaction that seals a segment'); END;

CREATE TRIGGER archived_origins_no_delete BEFORE DELETE ON archived_origins
BEGIN SELECT RAISE(ABORT, 'archived_origins: append-only'); END;

COMMIT;
