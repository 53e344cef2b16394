-- Tables whose changes become events. The triggers on a table carry the id of
-- its row here, and not the row the table's oid: so a renamed table stays
-- captured, and so does a dumped and restored one.
create table tide.outbox_capture (
    id             uuid        primary key default gen_random_uuid(),
    outbox_id      integer     not null references tide.outbox (id),
    -- the table's name when the capture was last set; for people
    table_name     text        not null,
    stream         text        not null,
    key_columns    text[]      not null,
    -- the columns that the options speak of, with their numbers: by these a
    -- dropped column is told from a renamed one
    named_columns  jsonb       not null,
    options        jsonb       not null,
    -- what follows from the options: columns left out, values of masked ones
    leave_out      text[]      not null,
    mask           jsonb       not null,
    -- the table's columns as they were, their types, and how each becomes
    -- JSON; null where that must be looked up each time
    plan_names     text[],
    plan_types     oid[],
    plan_kinds     text[],
    created_at     timestamptz not null default now(),
    -- the primary key of the last row that the backfill has published, as text
    backfill_after       text[],
    backfill_rows        bigint      not null default 0,
    backfill_total       bigint,
    backfill_started_at  timestamptz,
    backfill_finished_at timestamptz
);
create index outbox_capture_outbox_id_idx on tide.outbox_capture (outbox_id);
comment on table tide.outbox_capture is 'Tables whose changes are published, with what and how, and how far the backfill of their rows is.';
