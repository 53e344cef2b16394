-- Publishing what comes from another database: once for each event id.

-- Publishes the events whose ids the outbox does not know from earlier calls, in
-- the caller's transaction and with the caller's rights, and returns how many.
--
-- Two sessions with the same events, as a relay that was superseded and its
-- successor are: the second waits at the primary key for the first's commit,
-- and then knows them. Had they looked before they wrote, both would publish.
--
-- Locks: as tide.outbox_publish_many, and the rows of tide.outbox_received.
create or replace function tide.outbox_receive(
    outbox    text,
    event_ids uuid[],
    payloads  jsonb[],
    streams   text[],
    headers   jsonb[],
    keys      text[],
    ops       text[]
) returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    receiver integer;
    added    uuid[];
begin
    select o.id into receiver from tide.outbox o where o.name = outbox_receive.outbox;
    if receiver is null then
        perform tide.refuse_unknown('outbox', outbox, array(select o.name from tide.outbox o));
    end if;
    with fresh as (
        insert into tide.outbox_received (outbox_id, event_id)
        select receiver, e.id from unnest(event_ids) e (id)
        on conflict do nothing
        returning event_id
    )
    select array_agg(f.event_id) into added from fresh f;
    if added is null then
        return 0;
    end if;
    if cardinality(added) < cardinality(event_ids) then
        select array_agg(e.id order by e.place), array_agg(e.payload order by e.place), array_agg(e.stream order by e.place),
               array_agg(e.headers order by e.place), array_agg(e.key order by e.place), array_agg(e.op order by e.place)
        into event_ids, payloads, streams, headers, keys, ops
        from (
            select distinct on (a.id) a.*
            from unnest(event_ids, payloads, streams, outbox_receive.headers, keys, ops)
                with ordinality a (id, payload, stream, headers, key, op, place)
            where a.id = any(added)
            order by a.id, a.place
        ) e;
    end if;
    perform tide.outbox_publish_many(outbox, payloads, streams, headers, keys, ops, event_ids);
    return cardinality(added);
end
$$;
comment on function tide.outbox_receive(text, uuid[], jsonb[], text[], jsonb[], text[], text[]) is
'Called by a relay that moves events from another database: publishes, with their event ids, those that the outbox did not get before, in the order of the arrays, and returns how many.';

-- Removes event ids that are older than a day and than the longest retention;
-- a relay that sends again what is older would publish it again.
create or replace function tide.outbox_received_forget(max_ids integer) returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    forgotten bigint;
begin
    delete from tide.outbox_received r
    where r.ctid = any(array(
        select o.ctid
        from tide.outbox_received o
        where o.received_at < clock_timestamp() - greatest((select max(x.retention) from tide.outbox x), interval '1 day')
        order by o.received_at
        limit max_ids
        for update skip locked));
    get diagnostics forgotten = row_count;
    return forgotten;
end
$$;
comment on function tide.outbox_received_forget(integer) is
'Removes the oldest event ids that outboxes got from other databases, and returns how many.';
