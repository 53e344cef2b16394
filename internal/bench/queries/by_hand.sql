-- an outbox as one writes it by hand, with its primary key and nothing else
create table by_hand (
    id         bigint generated always as identity primary key,
    event_id   uuid not null default gen_random_uuid(),
    stream     text not null,
    key        text,
    op         text not null default 'insert',
    payload    jsonb not null,
    headers    jsonb not null default '{}',
    created_at timestamptz not null default clock_timestamp()
);

-- the same insert behind a function, which does nothing else
create table by_hand_through_function (like by_hand including all);
create function insert_by_hand(stream text, key text, payload jsonb) returns uuid
language plpgsql
as $$
declare
    new_id uuid := gen_random_uuid();
begin
    insert into by_hand_through_function (event_id, stream, key, payload)
    values (new_id, insert_by_hand.stream, insert_by_hand.key, insert_by_hand.payload);
    return new_id;
end
$$;

-- what the service writes besides
create table placed_order (
    id       bigint generated always as identity primary key,
    customer text not null
);
