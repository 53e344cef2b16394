-- Publishing many events at once: one insert for all of them, in the caller's
-- transaction and with the caller's rights.
--
-- Locks: as tide.outbox_publish.
create or replace function tide.outbox_publish_many(
    outbox    text,
    payloads  jsonb[],
    streams   text[]  default null,
    headers   jsonb[] default null,
    keys      text[]  default null,
    ops       text[]  default null,
    event_ids uuid[]  default null
) returns uuid[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    events    integer := cardinality(payloads);
    published uuid[];
    written   bigint;
    -- The event ids of a call share the time and 26 random bits, and count on
    -- from a random number of 44 bits (method 1 of RFC 9562, section 6.2): what
    -- outbox_publish says of their order, and one random number for all.
    random    text := lpad(to_hex((date_part('epoch', clock_timestamp()) * 1000)::bigint), 12, '0')
        || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14);
    first     bigint := ('x' || substr(random, 22))::bit(44)::bigint;
begin
    if outbox is null or events is null
        or cardinality(streams) not in (1, events) or cardinality(headers) not in (1, events) or cardinality(ops) not in (1, events)
        or cardinality(keys) <> events or cardinality(event_ids) <> events
    then
        perform tide.outbox_publish_many_refuse(outbox, payloads, streams, headers, keys, ops, event_ids);
    end if;
    if events > 1 then
        streams := case when cardinality(streams) = 1 then array_fill(streams[1], array[events]) else streams end;
        headers := case when cardinality(headers) = 1 then array_fill(headers[1], array[events]) else headers end;
        ops := case when cardinality(ops) = 1 then array_fill(ops[1], array[events]) else ops end;
    end if;
    if event_ids is null then
        published := array(select (left(random, 20) || lpad(to_hex(first + n), 12, '0'))::uuid from generate_series(1, events) n);
    else
        published := array(
            select coalesce(e.id, (left(random, 20) || lpad(to_hex(first + e.n), 12, '0'))::uuid)
            from unnest(event_ids) with ordinality e (id, n));
    end if;

    -- The functions' rows come in the arrays' order, and ids are drawn as they
    -- come: there is nothing here that sorts or hashes them.
    insert into tide.outbox_event (part, event_id, stream, key, op, payload, headers)
    select o.part, e.event_id, coalesce(e.stream, o.name), e.key, coalesce(e.op, 'insert'), e.payload, coalesce(e.headers, '{}')
    from tide.outbox o
    cross join unnest(published, streams, keys, ops, payloads, outbox_publish_many.headers) e (event_id, stream, key, op, payload, headers)
    where o.name = outbox_publish_many.outbox and o.enabled
        -- what tide.outbox_publish refuses is left out here, and found below
        and (e.stream = '' or length(e.stream) > 255 or e.stream like '{%' or e.stream like '[%'
            or e.key = '' or length(e.key) > 1024
            or jsonb_typeof(e.headers) <> 'object'
            or (e.op <> 'insert' and e.op !~ '^[A-Za-z0-9_.-]{1,64}$')
            or e.payload is null) is not true;
    get diagnostics written = row_count;
    if written <> events or events = 0 then
        perform tide.outbox_publish_many_refuse(outbox, payloads, streams, headers, keys, ops, published);
    end if;

    if not pg_try_advisory_xact_lock_shared(1953063013, hashtext(outbox)) then
        if current_setting('max_prepared_transactions') = '0' then
            perform pg_notify('tide_outbox', outbox);
        end if;
    end if;
    return published;
end
$$;
comment on function tide.outbox_publish_many(text, jsonb[], text[], jsonb[], text[], text[], uuid[]) is
'Publishes events in the order of payloads, all or none, and returns their event ids in that order. The other arrays have one element for each payload, null where tide.outbox_publish has a default; streams, headers and ops may have a single one that stands for all.
Example: select tide.outbox_publish_many(''order_events'', array_agg(jsonb_build_object(''order_id'', n)), keys => array_agg(n::text)) from generate_series(1, 1000) n;';

-- The error for what tide.outbox_publish_many does not take, which names the
-- event. Returns only where there was no event. Locks: as tide.outbox_publish.
create or replace function tide.outbox_publish_many_refuse(
    outbox    text,
    payloads  jsonb[],
    streams   text[],
    headers   jsonb[],
    keys      text[],
    ops       text[],
    event_ids uuid[]
) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    events  integer := cardinality(payloads);
    bad     record;
    problem text;
    advice  text;
begin
    perform tide.outbox_publish_refuse(outbox, null, '{}', null, null, null)
    where outbox is null or not exists (select from tide.outbox o where o.name = outbox_publish_many_refuse.outbox and o.enabled);
    if events is null then
        raise exception using
            errcode = '22004',
            message = format('cannot publish to outbox "%s": payloads are null', outbox),
            hint = 'Give an array of jsonb; an empty one, ''{}'', publishes nothing.';
    end if;
    select a.name, a.elements, a.single into bad
    from (values
        ('streams', cardinality(streams), true), ('headers', cardinality(headers), true), ('ops', cardinality(ops), true),
        ('keys', cardinality(keys), false), ('event_ids', cardinality(event_ids), false)
    ) a (name, elements, single)
    where a.elements <> events and not (a.single and a.elements = 1)
    limit 1;
    if found then
        raise exception using
            errcode = '22023',
            message = format('cannot publish to outbox "%s": %s have %s elements, and payloads %s', outbox, bad.name, bad.elements, events),
            hint = case
                when bad.single then format('Give %s one element for each payload, a single one for all, or null for the default.', bad.name)
                else format('Give %s one element for each payload, or null for the default.', bad.name)
            end;
    end if;
    if events = 0 then
        return;
    end if;
    -- One of them raises; what the others publish is undone by that.
    begin
        for bad in
            select e.*
            from unnest(streams, keys, ops, payloads, outbox_publish_many_refuse.headers) with ordinality e (stream, key, op, payload, headers, place)
            order by e.place
        loop
            perform tide.outbox_publish(outbox, bad.stream, bad.payload, bad.headers, bad.key, bad.op);
        end loop;
    exception when sqlstate '22023' or sqlstate '22004' then
        get stacked diagnostics problem = message_text, advice = pg_exception_hint;
        raise exception using
            errcode = sqlstate,
            message = format('%s (event %s of %s)', problem, bad.place, events),
            hint = advice;
    end;
    raise exception using
        errcode = '55000',
        message = format('outbox "%s" was disabled until a moment ago', outbox),
        hint = 'Publish again.';
end
$$;
comment on function tide.outbox_publish_many_refuse(text, jsonb[], text[], jsonb[], text[], text[], uuid[]) is
'Raises the error for what tide.outbox_publish_many does not take.';
