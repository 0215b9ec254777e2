-- A catalog as the third release wrote it (schema 3).  Never edit: every release must open it.
PRAGMA application_id = 1464357699;
PRAGMA user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE api_keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        salt BLOB NOT NULL,
        hash BLOB NOT NULL,
        permissions INTEGER NOT NULL,
        buckets BLOB,
        is_enabled INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        created_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
INSERT INTO "api_keys" VALUES('WHAAAAAAAAAAAAAAAAAAAA','root',X'30313233343536373839616263646566',X'4B715FAE2D772EC6640D3D645EEFAC81A853A3E17D0A11A5402F1CC9D5D967B3',3,X'81A670686F746F73A27277',1,1,1700000000000);
CREATE TABLE bucket_notes (
        disk_id TEXT NOT NULL,
        bucket_id INTEGER NOT NULL,
        name TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        is_deleted INTEGER NOT NULL,
        stamp INTEGER NOT NULL,
        PRIMARY KEY (disk_id, bucket_id)
    ) STRICT, WITHOUT ROWID;
INSERT INTO "bucket_notes" VALUES('disk-1',2,'films',1700000000000,0,111411200000000000);
CREATE TABLE buckets (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT UNIQUE,
        created_ms INTEGER NOT NULL,
        object_count INTEGER NOT NULL DEFAULT 0,
        byte_count INTEGER NOT NULL DEFAULT 0
    ) STRICT;
INSERT INTO "buckets" VALUES(1,'photos',1700000000000,3,500);
INSERT INTO "buckets" VALUES(2,'films',1700000000000,0,0);
CREATE TABLE buried (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        volume_id INTEGER NOT NULL,
        needle_id INTEGER NOT NULL,
        reason TEXT NOT NULL
    ) STRICT;
INSERT INTO "buried" VALUES(1,1,2,'deleted');
CREATE TABLE chunks (
        upload_id INTEGER NOT NULL,
        chunk_index INTEGER NOT NULL,
        volume_id INTEGER NOT NULL,
        needle_id INTEGER NOT NULL,
        size INTEGER NOT NULL,
        crc INTEGER NOT NULL DEFAULT 0,
        stamp INTEGER NOT NULL DEFAULT 0,
        is_stored INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (upload_id, chunk_index)
    ) STRICT, WITHOUT ROWID;
INSERT INTO "chunks" VALUES(1,0,1,5,100,39595,111411200001310720,1);
INSERT INTO "chunks" VALUES(1,1,2,1,100,7919,111411200001376256,1);
INSERT INTO "chunks" VALUES(1,2,1,6,100,47514,111411200001441792,1);
INSERT INTO "chunks" VALUES(2,0,1,7,100,55433,111411200000065536,1);
CREATE TABLE copies (
        volume_id INTEGER NOT NULL,
        disk_id TEXT NOT NULL,
        PRIMARY KEY (volume_id, disk_id)
    ) STRICT, WITHOUT ROWID;
INSERT INTO "copies" VALUES(1,'disk-1');
INSERT INTO "copies" VALUES(2,'disk-1');
CREATE TABLE damages (
        volume_id INTEGER NOT NULL,
        needle_id INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        problem TEXT NOT NULL,
        bucket TEXT,
        key TEXT,
        found_ms INTEGER NOT NULL,
        PRIMARY KEY (volume_id, needle_id, offset)
    ) STRICT, WITHOUT ROWID;
INSERT INTO "damages" VALUES(1,0,8192,'not a needle',NULL,NULL,1700000000012);
INSERT INTO "damages" VALUES(1,1,4096,'CRC mismatch','photos','a/ü',1700000000011);
CREATE TABLE disks (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        added_ms INTEGER NOT NULL
    , epoch INTEGER NOT NULL DEFAULT 0, mark INTEGER NOT NULL DEFAULT 0, catalog_id INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
INSERT INTO "disks" VALUES('disk-1','first',1700000000000,0,0,0);
CREATE TABLE facts (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
INSERT INTO "facts" VALUES('is_paused',1);
INSERT INTO "facts" VALUES('stamp_max',111411200001441792);
CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        work TEXT NOT NULL,
        volume_id INTEGER NOT NULL,
        origin TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        UNIQUE (work, volume_id)
    ) STRICT;
INSERT INTO "jobs" VALUES(1,'verify',1,'policy',1700000000005);
INSERT INTO "jobs" VALUES(3,'compact',2,'operator',1700000000007);
CREATE TABLE objects (
        bucket_id INTEGER NOT NULL,
        key TEXT NOT NULL,
        size INTEGER NOT NULL,
        stamp INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        content_type TEXT,
        volume_id INTEGER NOT NULL,
        needle_id INTEGER NOT NULL,
        crc INTEGER NOT NULL,
        chunk_count INTEGER NOT NULL,
        upload_id INTEGER,
        metadata BLOB,
        PRIMARY KEY (bucket_id, key)
    ) STRICT, WITHOUT ROWID;
INSERT INTO "objects" VALUES(1,'a/ü',100,111411200000065536,1700000000001,'text/plain',1,1,7919,1,NULL,X'81A6636F6C6F7572A4626C6175');
INSERT INTO "objects" VALUES(1,'big',300,111411200001441792,1700000000000,NULL,1,5,39595,3,1,X'81A16EA176');
INSERT INTO "objects" VALUES(1,'old',100,111411200000131072,1700000000002,NULL,1,4,31676,1,NULL,NULL);
CREATE TABLE outbox (
        volume_id INTEGER NOT NULL,
        needle_id INTEGER NOT NULL,
        stamp INTEGER NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (volume_id, needle_id)
    ) STRICT, WITHOUT ROWID;
INSERT INTO "outbox" VALUES(1,3,111411200000131072,'replaced');
CREATE TABLE uploads (
        id INTEGER PRIMARY KEY,
        bucket_id INTEGER NOT NULL,
        key TEXT NOT NULL,
        content_type TEXT,
        if_match TEXT,
        if_none_match TEXT,
        created_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL,
        lifetime_ms INTEGER NOT NULL,
        is_finished INTEGER NOT NULL DEFAULT 0,
        metadata BLOB,
        finished_size INTEGER,
        finished_stamp INTEGER,
        finished_volume_id INTEGER,
        finished_needle_id INTEGER,
        finished_crc INTEGER,
        finished_chunk_count INTEGER
    ) STRICT;
INSERT INTO "uploads" VALUES(1,1,'big',NULL,NULL,'*',1700000000000,1700000600022,1000,1,X'81A16EA176',300,111411200001441792,1,5,39595,3);
INSERT INTO "uploads" VALUES(2,1,'unfinished',NULL,NULL,NULL,1700000000000,1700000001001,1000,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE volumes (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        uuid TEXT NOT NULL UNIQUE,
        capacity INTEGER NOT NULL,
        needle_id_reserved INTEGER NOT NULL DEFAULT 0,
        garbage_count INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL
    , created_ms INTEGER NOT NULL DEFAULT 0, verified_ms INTEGER, verify_started_ms INTEGER NOT NULL DEFAULT 0, verify_generation INTEGER NOT NULL DEFAULT 0, verify_offset INTEGER NOT NULL DEFAULT 0, swept_stamp INTEGER NOT NULL DEFAULT 0) STRICT;
INSERT INTO "volumes" VALUES(1,'uuid-1',1073741824,1000000,1,'creating',1700000000000,1700000000008,1700000000009,2,4096,111411200000655360);
INSERT INTO "volumes" VALUES(2,'uuid-2',1073741824,1000000,0,'creating',1700000000000,NULL,0,0,0,0);
CREATE UNIQUE INDEX objects_by_needle ON objects (volume_id, needle_id);
CREATE INDEX uploads_by_expiry ON uploads (is_finished, expires_ms);
CREATE INDEX uploads_by_bucket ON uploads (bucket_id);
CREATE UNIQUE INDEX chunks_by_needle ON chunks (volume_id, needle_id);
CREATE UNIQUE INDEX buried_by_needle ON buried (volume_id, needle_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('volumes',2);
INSERT INTO "sqlite_sequence" VALUES('buckets',2);
INSERT INTO "sqlite_sequence" VALUES('buried',1);
INSERT INTO "sqlite_sequence" VALUES('jobs',3);
COMMIT;
