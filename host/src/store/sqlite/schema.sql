-- Version 1. People may read this file with `sqlite3 -readonly`; the view `memberships` shows it all by name.

CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    -- How many changes have been committed for the user.
    version INTEGER NOT NULL
) STRICT;

CREATE TABLE groups (
    id INTEGER PRIMARY KEY,
    user INTEGER NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    -- The order of creation.
    position INTEGER NOT NULL,
    UNIQUE (user, name)
) STRICT;

CREATE TABLE members (
    group_id INTEGER NOT NULL REFERENCES groups (id),
    conversation_id TEXT NOT NULL,
    -- The order of adding.
    position INTEGER NOT NULL,
    PRIMARY KEY (group_id, conversation_id)
) STRICT, WITHOUT ROWID;

-- The newest changes of each user.
CREATE TABLE log (
    user INTEGER NOT NULL REFERENCES users (id),
    version INTEGER NOT NULL,
    -- JSON: the call it came from, and the events.
    origin TEXT NOT NULL,
    events TEXT NOT NULL,
    PRIMARY KEY (user, version)
) STRICT, WITHOUT ROWID;

CREATE VIEW memberships AS
SELECT users.user_id, groups.name AS group_name, members.conversation_id
FROM members
JOIN groups ON groups.id = members.group_id
JOIN users ON users.id = groups.user
ORDER BY users.user_id, groups.position, members.position;
