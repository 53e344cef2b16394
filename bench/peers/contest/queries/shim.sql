-- The torture's writers publish by this function. In a peer's database it
-- writes into the peer's outbox.
create schema tide;

create function tide.outbox_publish(
    outbox text, stream text, payload jsonb, headers jsonb default '{}', key text default null,
    op text default 'insert', event_id uuid default null
) returns uuid
language plpgsql
as $$
declare
    new_id uuid := gen_random_uuid();
begin
    perform public.publish_one(new_id, outbox_publish.key, outbox_publish.payload);
    return new_id;
end
$$;
