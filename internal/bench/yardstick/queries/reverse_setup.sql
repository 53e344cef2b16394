drop table if exists by_hand_inbox;
create table by_hand_inbox (
    id           bigint generated always as identity primary key,
    event_id     text not null unique,
    source       text not null,
    stream       text not null,
    key          text,
    op           text not null,
    event_type   text not null,
    payload      jsonb not null,
    received_at  timestamptz not null default clock_timestamp(),
    processed_at timestamptz
);
