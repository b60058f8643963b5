-- A user's id leads every key, so that the tables can be spread over machines by user.
-- Ids and names are compared by their bytes: COLLATE "C".

CREATE TABLE convgroups.users (
    user_id text COLLATE "C" NOT NULL,
    -- One more with each change; more than one where a user came from another store. Every writer raises it, on the condition
    -- that it is as it was read.
    version bigint NOT NULL,
    -- The number of the newest group, whether it is still there or not.
    groups_created bigint NOT NULL CHECK (groups_created <= 4294967295),
    PRIMARY KEY (user_id)
);

CREATE TABLE convgroups.groups (
    user_id text COLLATE "C" NOT NULL,
    -- A user's groups are numbered from 1 in the order of creation. The number is the group's id to callers.
    number bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, number),
    UNIQUE (user_id, name)
);

CREATE TABLE convgroups.members (
    user_id text COLLATE "C" NOT NULL,
    group_number bigint NOT NULL,
    conversation_id text COLLATE "C" NOT NULL,
    -- The order of adding.
    position bigint NOT NULL,
    PRIMARY KEY (user_id, group_number, conversation_id)
);

-- Conversations with marks or custom data.
CREATE TABLE convgroups.conversations (
    user_id text COLLATE "C" NOT NULL,
    conversation_id text COLLATE "C" NOT NULL,
    -- One bit each. The highest bit is the sign: there are no unsigned numbers.
    marks bigint NOT NULL,
    custom_data text NOT NULL,
    -- The order in which they first got some.
    position bigint NOT NULL,
    PRIMARY KEY (user_id, conversation_id)
);

-- The newest changes of each user.
CREATE TABLE convgroups.log (
    user_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    -- Made up for the commit by the host, which recognises by it a commit whose answer it did not get.
    token bytea NOT NULL,
    -- JSON: the call it came from, and the events. Events are NOT NULL on purpose: a commit that does not fit what is there
    -- writes NULL, and is undone as a whole.
    origin text NOT NULL,
    events text NOT NULL,
    PRIMARY KEY (user_id, version)
);
