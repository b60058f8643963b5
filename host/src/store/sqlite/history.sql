-- Version 2: which history the store has, for readers of events.

CREATE TABLE history (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    -- 16 hexadecimal digits, made anew when readers may have seen what is no longer there.
    identity TEXT NOT NULL,
    -- Made anew by a host's first commit and when it closes the file, and noted beside it in PATH-history. A file that was put in
    -- place from a copy has another one. 'new' before the first time, 'copy' in what `convgroups backup` writes.
    mark TEXT NOT NULL
) STRICT;

INSERT INTO history (only_row, identity, mark) VALUES (1, lower(hex(randomblob(8))), 'new');
