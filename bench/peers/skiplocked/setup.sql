create table outbox (
    id         bigint generated always as identity primary key,
    event_id   uuid not null default gen_random_uuid(),
    key        text,
    payload    jsonb not null,
    created_at timestamptz not null default now()
);
