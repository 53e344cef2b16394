-- What a consuming service writes. Nothing is unique on purpose: an effect
-- that happens twice shall show.
create schema if not exists torture;
create table torture.effect (
    n        bigint      generated always as identity,
    event_id text        not null,
    line     text        not null,
    seq      bigint      not null,
    worker   integer     not null,
    at       timestamptz not null default clock_timestamp()
);
