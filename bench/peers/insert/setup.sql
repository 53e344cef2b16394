create table inbox (
    id           bigint generated always as identity primary key,
    event_id     text not null unique,
    key          text,
    event_type   text not null,
    payload      jsonb not null,
    received_at  timestamptz not null default now(),
    processed_at timestamptz
);
