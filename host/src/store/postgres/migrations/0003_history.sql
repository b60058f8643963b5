-- Which history the store has, for readers of events. One row, which the first host that needs it inserts.
-- All hosts read it with every read of a change log: it is replicated where the other tables are spread over machines.

CREATE TABLE convgroups.history (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- 16 hexadecimal digits, made anew when readers may have seen what is no longer there.
    identity text NOT NULL,
    -- Where the identity was made: the cluster, its timeline, and the transaction. NULL where the database does not tell.
    system_identifier text,
    timeline text,
    written_by bigint
);
