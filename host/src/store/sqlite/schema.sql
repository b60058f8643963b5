-- Version 1. People may read this file with `sqlite3 -readonly`; the view `memberships` shows the groups by name.

CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    -- One more with each change; more than one where a user came from another store.
    version INTEGER NOT NULL,
    -- The number of the newest group, whether it is still there or not.
    groups_created INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE groups (
    id INTEGER PRIMARY KEY,
    user INTEGER NOT NULL REFERENCES users (id),
    -- A user's groups are numbered from 1 in the order of creation. The number is the group's id to callers.
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (user, name)
) STRICT;

CREATE TABLE members (
    group_id INTEGER NOT NULL REFERENCES groups (id),
    conversation_id TEXT NOT NULL,
    -- The order of adding.
    position INTEGER NOT NULL,
    PRIMARY KEY (group_id, conversation_id)
) STRICT, WITHOUT ROWID;

-- Conversations with marks or custom data.
CREATE TABLE conversations (
    user INTEGER NOT NULL REFERENCES users (id),
    conversation_id TEXT NOT NULL,
    -- One bit each. The highest bit is the sign: a file has no unsigned numbers.
    marks INTEGER NOT NULL,
    custom_data TEXT NOT NULL,
    -- The order in which they first got some.
    position INTEGER NOT NULL,
    PRIMARY KEY (user, conversation_id)
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
ORDER BY users.user_id, groups.number, members.position;
