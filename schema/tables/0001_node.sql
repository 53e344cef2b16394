-- What this database is. At most one row, written by the first thing that
-- needs it (tide.node_id) and not here, since a restored dump brings its own.
-- A copy of the database carries it along, and the relay sees by
-- system_identifier and database_oid that it is a copy.
create table tide.node (
    singleton         boolean     primary key default true check (singleton),
    database_id       uuid        not null default gen_random_uuid(),
    -- those of the cluster and database that the relay last worked in; null before the first
    system_identifier bigint,
    database_oid      oid,
    -- grows by one each time the database is found to be another (restored, copied)
    incarnation       integer     not null default 1,
    -- the greatest outbox id at that moment: the xids of rows at or below belong to another history
    floor_id          bigint      not null default 0,
    installed_at      timestamptz not null default now()
);
comment on table tide.node is 'What this database is: the id that its events carry as their source, and the cluster it was last seen in.';
