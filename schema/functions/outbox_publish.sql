-- Publishing an event: one insert, in the caller's transaction and with the
-- caller's rights.
--
-- Locks: ROW EXCLUSIVE on one partition; an advisory lock, shared, on the
-- outbox until the end of the transaction, which nobody waits for. Only a
-- relay that is about to sleep tries it exclusively, and never waits for it:
-- while it sleeps, the shared lock is not to be had, and that is how a
-- publisher knows that somebody must be woken. NOTIFY takes a cluster-wide
-- lock until commit and costs two thirds of the commit rate with 16 sessions,
-- so it is done only then. It is a hint; the relay also polls.
create or replace function tide.outbox_publish(
    outbox   text,
    stream   text,
    payload  jsonb,
    headers  jsonb default '{}',
    key      text  default null,
    op       text  default 'insert',
    event_id uuid  default null
) returns uuid
language plpgsql
volatile
-- No "set search_path" here: to set it and to put it back is a quarter of what
-- publishing costs more than a plain insert. Instead every type, function and
-- operator names its schema, and nothing is used that looks an operator up
-- by itself, as "in", "like" and "is distinct from" do.
as $$
declare
    -- An event id begins with the time in milliseconds (version 7 of RFC 9562):
    -- inboxes and brokers index event ids, and ids that come in their order
    -- cost an inbox a third less than random ones, however large it is.
    published pg_catalog.uuid := coalesce(event_id, (
        pg_catalog.lpad(pg_catalog.to_hex(
            (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) operator(pg_catalog.*) 1000)::pg_catalog.int8), 12, '0')
        operator(pg_catalog.||) '7'
        operator(pg_catalog.||) pg_catalog.substr(pg_catalog.gen_random_uuid()::pg_catalog.text, 16))::pg_catalog.uuid);
begin
    if stream operator(pg_catalog.=) '' or pg_catalog.length(stream) operator(pg_catalog.>) 255
        or stream operator(pg_catalog.~~) '{%' or stream operator(pg_catalog.~~) '[%'
        or key operator(pg_catalog.=) '' or pg_catalog.length(key) operator(pg_catalog.>) 1024
        or pg_catalog.jsonb_typeof(headers) operator(pg_catalog.<>) 'object'
        or (op operator(pg_catalog.<>) 'insert' and op operator(pg_catalog.!~) '^[A-Za-z0-9_.-]{1,64}$')
        or payload is null
    then
        perform tide.outbox_publish_refuse(outbox, stream, payload, headers, key, op);
    end if;

    -- One statement for the look-up and the insert: a second one would cost
    -- a tenth of the commit rate.
    insert into tide.outbox_event (part, event_id, stream, key, op, payload, headers)
    select o.part, published,
           coalesce(outbox_publish.stream, o.name), outbox_publish.key, coalesce(outbox_publish.op, 'insert'),
           outbox_publish.payload, coalesce(outbox_publish.headers, '{}')
    from tide.outbox o
    where o.name operator(pg_catalog.=) outbox_publish.outbox and o.enabled;
    if not found then
        perform tide.outbox_publish_refuse(outbox, stream, payload, headers, key, op);
    end if;

    if not pg_catalog.pg_try_advisory_xact_lock_shared(1953063013, pg_catalog.hashtext(outbox)) then
        -- A transaction that has notified cannot be prepared for two-phase
        -- commit; where those are possible the relay polls instead.
        if pg_catalog.current_setting('max_prepared_transactions') operator(pg_catalog.=) '0' then
            perform pg_catalog.pg_notify('tide_outbox', outbox);
        end if;
    end if;
    return published;
end
$$;

comment on function tide.outbox_publish(text, text, jsonb, jsonb, text, text, uuid) is
'Publishes an event in the caller''s transaction and returns its event id. stream null means the outbox''s name; events of one key keep their order; event_id makes the event id yours.
Example: select tide.outbox_publish(''order_events'', ''orders'', jsonb_build_object(''order_id'', 7), key => ''7'');';

-- The short form: the outbox's name is the stream.
create or replace function tide.outbox_publish(outbox text, payload jsonb, headers jsonb default '{}') returns uuid
language plpgsql
volatile
as $$
begin
    return tide.outbox_publish(outbox, null::pg_catalog.text, payload, headers);
end
$$;
comment on function tide.outbox_publish(text, jsonb, jsonb) is
'Publishes an event whose stream is the outbox''s name, in the caller''s transaction, and returns its event id.
Example: select tide.outbox_publish(''order_events'', jsonb_build_object(''order_id'', 7));';
