//! The tables, as the migrations that make them.

use rusqlite::Connection;

/// Each brings the schema from its index to the next version (`PRAGMA user_version`). Never edited once released;
/// a change is a new one at the end.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE project (
        id         INTEGER PRIMARY KEY,
        host       TEXT NOT NULL,
        project_id TEXT NOT NULL,
        owner      TEXT NOT NULL,
        known      INTEGER NOT NULL DEFAULT 0,
        UNIQUE (host, project_id, owner)
    ) STRICT;

    -- A tenant of '' stands for none. Times are milliseconds since 1970.
    CREATE TABLE owned (
        project        INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        kind           TEXT NOT NULL,
        tenant         TEXT NOT NULL,
        name           TEXT NOT NULL,
        created_at     INTEGER,
        protected      INTEGER NOT NULL,
        cascade_delete INTEGER NOT NULL,
        PRIMARY KEY (project, kind, tenant, name)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE renamed (
        project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        kind    TEXT NOT NULL,
        tenant  TEXT NOT NULL,
        old     TEXT NOT NULL,
        new     TEXT NOT NULL,
        PRIMARY KEY (project, kind, tenant, old, new)
    ) STRICT, WITHOUT ROWID;

    -- Calls that may have been sent and whose outcome is not known.
    CREATE TABLE intent (
        id        INTEGER PRIMARY KEY AUTOINCREMENT,
        project   INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        kind      TEXT NOT NULL,
        tenant    TEXT NOT NULL,
        name      TEXT NOT NULL,
        action    TEXT NOT NULL,
        from_name TEXT,
        digest    BLOB NOT NULL,
        begun_at  INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX intent_project ON intent (project);

    CREATE TABLE sent (
        project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        kind    TEXT NOT NULL,
        tenant  TEXT NOT NULL,
        name    TEXT NOT NULL,
        field   TEXT NOT NULL,
        digest  BLOB NOT NULL,
        PRIMARY KEY (project, kind, tenant, name, field)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE limiter (
        host   TEXT PRIMARY KEY,
        memory TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "
    ALTER TABLE project ADD COLUMN suspended_until INTEGER;

    -- Owned resources that no file declares, since the first load that lacked them.
    CREATE TABLE absent (
        project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        kind    TEXT NOT NULL,
        tenant  TEXT NOT NULL,
        name    TEXT NOT NULL,
        since   INTEGER NOT NULL,
        PRIMARY KEY (project, kind, tenant, name)
    ) STRICT, WITHOUT ROWID;

    -- Deletes done without an approval: what the guards count.
    CREATE TABLE deletion (
        project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        kind    TEXT NOT NULL,
        at      INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX deletion_project ON deletion (project, at);

    -- When deletes of a kind were last approved: counting starts anew there.
    CREATE TABLE approval (
        project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        kind    TEXT NOT NULL,
        at      INTEGER NOT NULL,
        PRIMARY KEY (project, kind)
    ) STRICT, WITHOUT ROWID;

    -- Changes that may go ahead though a guard holds them.
    CREATE TABLE approved (
        project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        digest  TEXT NOT NULL,
        expires INTEGER NOT NULL,
        PRIMARY KEY (project, digest)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE pass (
        id          INTEGER PRIMARY KEY AUTOINCREMENT,
        project     INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        started_at  INTEGER NOT NULL,
        finished_at INTEGER NOT NULL,
        trigger     TEXT NOT NULL,
        revision    TEXT NOT NULL,
        result      TEXT NOT NULL,
        changes     INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX pass_project ON pass (project, id);

    -- Every change attempted. `fields` is JSON: [{path, from, to}], secrets masked.
    CREATE TABLE audit (
        id          INTEGER PRIMARY KEY AUTOINCREMENT,
        project     INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        at          INTEGER NOT NULL,
        trigger     TEXT NOT NULL,
        revision    TEXT NOT NULL,
        file        TEXT,
        line        INTEGER,
        kind        TEXT NOT NULL,
        tenant      TEXT NOT NULL,
        name        TEXT NOT NULL,
        action      TEXT NOT NULL,
        fields      TEXT NOT NULL,
        attempt     INTEGER NOT NULL,
        outcome     TEXT NOT NULL,
        message     TEXT NOT NULL,
        duration_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX audit_project ON audit (project, id);
    CREATE INDEX audit_at ON audit (at);
",
    "
    ALTER TABLE audit ADD COLUMN source_commit TEXT;
    -- Refused with its batch and tried apart: the next row of the resource takes its place.
    ALTER TABLE audit ADD COLUMN interim INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX audit_interim ON audit (project, kind, tenant, name) WHERE interim = 1;

    -- All that the outcome of a call needs, so that it can be told after a power cut.
    ALTER TABLE intent ADD COLUMN part TEXT NOT NULL DEFAULT '';
    ALTER TABLE intent ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE intent ADD COLUMN protected INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE intent ADD COLUMN cascade_delete INTEGER NOT NULL DEFAULT 0;
    -- Of `approved`: used up once the call took effect.
    ALTER TABLE intent ADD COLUMN approval TEXT;
    ALTER TABLE intent ADD COLUMN trigger TEXT NOT NULL DEFAULT 'startup';
    ALTER TABLE intent ADD COLUMN revision TEXT NOT NULL DEFAULT '';
    ALTER TABLE intent ADD COLUMN source_commit TEXT;
    ALTER TABLE intent ADD COLUMN file TEXT;
    ALTER TABLE intent ADD COLUMN line INTEGER;
    ALTER TABLE intent ADD COLUMN fields TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE intent ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
    -- Its row of the audit trail, once its answer was waited for in vain.
    ALTER TABLE intent ADD COLUMN audit INTEGER;

    -- When it was given, which names what was approved together, and for how many milliseconds.
    ALTER TABLE approved ADD COLUMN given INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE approved ADD COLUMN lasts INTEGER NOT NULL DEFAULT 0;
",
    "
    -- Of the change. One of before is of ''.
    ALTER TABLE approved ADD COLUMN kind TEXT NOT NULL DEFAULT '';
    CREATE INDEX intent_audit ON intent (audit) WHERE audit IS NOT NULL;
",
    "
    -- Fields that were written, with the answer that it was done, until a look shows them. Fingerprints of what was sent, and
    -- of what was there before; how often the same was sent.
    CREATE TABLE written (
        project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        kind    TEXT NOT NULL,
        tenant  TEXT NOT NULL,
        name    TEXT NOT NULL,
        path    TEXT NOT NULL,
        sent    BLOB NOT NULL,
        before  BLOB NOT NULL,
        times   INTEGER NOT NULL,
        PRIMARY KEY (project, kind, tenant, name, path)
    ) STRICT, WITHOUT ROWID;

    -- Which of those that bore its name it is: a fingerprint of what Descope gave it. NULL: not seen since it was made.
    ALTER TABLE owned ADD COLUMN incarnation BLOB;
",
    "
    -- Name and path of the entry of the config that it is known under. NULL: not noted yet.
    ALTER TABLE project ADD COLUMN entry TEXT;

    -- Fields of which everything was let go ahead once, or was in sync. What releases without this table compared is known
    -- where they owned something of the kind.
    CREATE TABLE contacted (
        project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        kind    TEXT NOT NULL,
        field   TEXT NOT NULL,
        PRIMARY KEY (project, kind, field)
    ) STRICT, WITHOUT ROWID;
    WITH compared (kind, field) AS (VALUES
        ('permissions', 'name'), ('permissions', 'description'),
        ('roles', 'name'), ('roles', 'tenantId'), ('roles', 'description'), ('roles', 'permissionNames'),
        ('roles', 'default'), ('roles', 'private'),
        ('tenants', 'id'), ('tenants', 'name'), ('tenants', 'selfProvisioningDomains'), ('tenants', 'customAttributes'),
        ('tenants', 'enforceSSO'), ('tenants', 'enforceSSOExclusions'), ('tenants', 'disabled'),
        ('tenants', 'roleInheritance'))
    INSERT INTO contacted (project, kind, field)
    SELECT DISTINCT owned.project, compared.kind, compared.field FROM owned JOIN compared ON compared.kind = owned.kind;

    -- Since when something waits for a reason.
    CREATE TABLE held (
        project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        reason  TEXT NOT NULL,
        since   INTEGER NOT NULL,
        PRIMARY KEY (project, reason)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- The id that Descope gave it: of two that bear its name, this one is ours. NULL: not known, or of a kind without.
    ALTER TABLE owned ADD COLUMN server_id TEXT;
",
    "
    -- Of a big document: a fingerprint of what Descope made of it, read back after it was sent. NULL: not read yet.
    ALTER TABLE sent ADD COLUMN seen BLOB;
",
    "
    -- What receivers of notifications were told, or may have been, and not yet the end of. The project by its name in the
    -- config; times are RFC 3339.
    CREATE TABLE told (
        receiver TEXT NOT NULL,
        project  TEXT NOT NULL,
        event    TEXT NOT NULL,
        subject  TEXT NOT NULL,
        since    TEXT NOT NULL,
        sure     INTEGER NOT NULL,
        PRIMARY KEY (receiver, project, event, subject)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- Kinds, and where it is not '' one resource of them, that are only observed.
    CREATE TABLE suspended (
        project  INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        kind     TEXT NOT NULL,
        resource TEXT NOT NULL,
        since    INTEGER NOT NULL,
        until    INTEGER NOT NULL,
        PRIMARY KEY (project, kind, resource)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- Fields that somebody else turned back: fingerprints of what the files say and of what was there instead.
    CREATE TABLE reverted (
        project  INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        kind     TEXT NOT NULL,
        tenant   TEXT NOT NULL,
        name     TEXT NOT NULL,
        path     TEXT NOT NULL,
        declared BLOB NOT NULL,
        live     BLOB NOT NULL,
        at       INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX reverted_project ON reverted (project, at);
",
    "
    -- The id that Descope gave to what it made, where that is all that came of the call.
    ALTER TABLE intent ADD COLUMN server_id TEXT;

    -- Files with a secret that Descope showed once, by path: a fingerprint of what was put there. That may be overwritten.
    CREATE TABLE secret_file (
        project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        path    TEXT NOT NULL,
        digest  BLOB NOT NULL,
        PRIMARY KEY (project, path)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- Did a look show the new name without the old one? What is answered is not yet done.
    ALTER TABLE renamed ADD COLUMN seen INTEGER NOT NULL DEFAULT 1;
",
    "
    -- What the files said when it was last in force: fingerprints of paths and of their values, cut to eight bytes each, in
    -- the order of the paths.
    CREATE TABLE applied (
        project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        kind    TEXT NOT NULL,
        tenant  TEXT NOT NULL,
        name    TEXT NOT NULL,
        marks   BLOB NOT NULL,
        PRIMARY KEY (project, kind, tenant, name)
    ) STRICT, WITHOUT ROWID;

    -- What differs though the files did not change it, since the first look that showed it. A path of '' stands for the
    -- resource as a whole, which somebody else deleted.
    CREATE TABLE drifted (
        project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        kind    TEXT NOT NULL,
        tenant  TEXT NOT NULL,
        name    TEXT NOT NULL,
        path    TEXT NOT NULL,
        since   INTEGER NOT NULL,
        PRIMARY KEY (project, kind, tenant, name, path)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- Who did it, how and when, where Descope's audit trail tells.
    ALTER TABLE drifted ADD COLUMN actor TEXT;
    -- The same of the drift that it put back.
    ALTER TABLE audit ADD COLUMN actor TEXT;
",
    "
    -- On whose behalf; '' where that is not known.
    ALTER TABLE project ADD COLUMN suspended_by TEXT NOT NULL DEFAULT '';
    ALTER TABLE suspended ADD COLUMN ordered_by TEXT NOT NULL DEFAULT '';
    -- What exactly the receiver was told of, where the same thing can become another; '' where it cannot, or is not known.
    ALTER TABLE told ADD COLUMN what TEXT NOT NULL DEFAULT '';
    -- Could newer files not be used, so that it is of the last good ones?
    ALTER TABLE pass ADD COLUMN invalid INTEGER NOT NULL DEFAULT 0;
",
    "
    -- Owned resources that no file declares and no list shows, since the first look that lacked them.
    CREATE TABLE missing (
        project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        kind    TEXT NOT NULL,
        tenant  TEXT NOT NULL,
        name    TEXT NOT NULL,
        since   INTEGER NOT NULL,
        PRIMARY KEY (project, kind, tenant, name)
    ) STRICT, WITHOUT ROWID;

    -- When what was deleted had been created, as in `owned`.
    ALTER TABLE deletion ADD COLUMN created_at INTEGER;
",
    "
    -- A fingerprint of what was there, of which `actor` says who set it.
    ALTER TABLE drifted ADD COLUMN live BLOB;
    -- What the receiver was told that an approval names; '' where none ends it, or it is not known.
    ALTER TABLE told ADD COLUMN fingerprint TEXT NOT NULL DEFAULT '';
",
    "
    -- Which files were in force, in their order, each with the newest commit that had it: for replicas that this is carried to.
    CREATE TABLE revision (
        id           INTEGER PRIMARY KEY,
        project      INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        revision     TEXT NOT NULL,
        at           INTEGER NOT NULL,
        source_commit TEXT,
        committed_at INTEGER,
        ancestors    TEXT,
        left_at      INTEGER
    ) STRICT;
    CREATE INDEX revision_project ON revision (project, id);
",
    "
    -- Of the change, as KIND/ID. One of before, and that another entry gets the project, is of ''.
    ALTER TABLE approved ADD COLUMN resource TEXT NOT NULL DEFAULT '';
",
];

/// The version that this binary reads and writes.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// The version of a file; 0 for an empty one.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<usize> {
    connection.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0)).map(|version| version as usize)
}

/// Brings the file to [`VERSION`]: one transaction a step, so that a kill leaves a whole version.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    migrate_to(connection, VERSION)
}

/// Brings the file to this version, for tests to begin with an older one.
pub(super) fn migrate_to(connection: &mut Connection, wanted: usize) -> rusqlite::Result<()> {
    for (version, tables) in (1u32..).zip(MIGRATIONS).take(wanted).skip(version(connection)?) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(tables)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
