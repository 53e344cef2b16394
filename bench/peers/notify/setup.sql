create table outbox (
    id         bigint generated always as identity primary key,
    event_id   uuid not null default gen_random_uuid(),
    key        text,
    payload    jsonb not null,
    created_at timestamptz not null default now()
);

create table outbox_position as select 0::bigint as last_id;

create function outbox_notify() returns trigger
language plpgsql
as $$
begin
    perform pg_notify('outbox', new.id::text);
    return null;
end
$$;

create trigger outbox_notify after insert on outbox for each row execute function outbox_notify();
