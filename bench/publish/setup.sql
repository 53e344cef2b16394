select tide.outbox_create('orders');
-- an outbox as one writes it by hand, with its primary key and nothing else
create table plain (
    id         bigint generated always as identity primary key,
    event_id   uuid not null default gen_random_uuid(),
    stream     text not null,
    key        text,
    op         text not null default 'insert',
    payload    jsonb not null,
    headers    jsonb not null default '{}',
    created_at timestamptz not null default clock_timestamp()
);
