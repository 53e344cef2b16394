-- What a publishing service has beside its outbox: the numbers along each
-- line, and the ledger, which is written in the publisher's own transaction.
create schema torture;

create table torture.line (
    line text   primary key,
    seq  bigint not null
);

create table torture.ledger (
    n        bigint      generated always as identity,
    event_id uuid        not null,
    outbox   text        not null,
    line     text        not null,
    seq      bigint      not null,
    type     text        not null,
    txn      bigint      not null,
    xid      xid8        not null default pg_current_xact_id(),
    how      text        not null,
    at       timestamptz not null default clock_timestamp()
);

-- Events that the clerk found set aside, rightly, and gave up.
create table torture.discarded (
    n        bigint      generated always as identity,
    event_id text        not null,
    at       timestamptz not null default clock_timestamp()
);

-- What an operator does about dead letters: poison is given up, and what had
-- to wait behind it is tried again.
create function torture.clear_letters(pipeline text) returns bigint
language plpgsql
as $$
declare
    poison  bigint[];
    events  text[];
    waiting bigint[];
begin
    select array_agg(d.id order by d.id), array_agg(d.event_id order by d.id)
    into poison, events
    from tide.dead_letters d
    where d.pipeline = clear_letters.pipeline and d.payload ->> 'event_type' = 'poison';
    if poison is not null then
        perform tide.dead_letter_discard(pipeline, poison);
        insert into torture.discarded (event_id) select unnest(events);
    end if;
    select array_agg(d.id order by d.id)
    into waiting
    from tide.dead_letters d
    where d.pipeline = clear_letters.pipeline
        and d.payload ->> 'event_type' <> 'poison'
        and d.retry_requested_at is null;
    if waiting is not null then
        perform tide.dead_letter_retry(pipeline, waiting);
    end if;
    return coalesce(cardinality(poison), 0) + coalesce(cardinality(waiting), 0);
end
$$;

-- With a key, the number is drawn under the lock of the key's row, so that
-- the order of numbers is the order of commits. Without one it is the
-- writer's own.
create function torture.publish(
    outbox text, line text, key text, number bigint, type text, op text, txn bigint, how text, pad text
) returns uuid
language plpgsql
as $$
declare
    drawn bigint := number;
    id    uuid;
begin
    if key is not null then
        insert into torture.line as l (line, seq)
        values (publish.line, 1)
        on conflict on constraint line_pkey do update set seq = l.seq + 1
        returning l.seq into drawn;
    end if;
    id := tide.outbox_publish(
        outbox, 'torture',
        jsonb_build_object('event_type', type, 'line', line, 'seq', drawn, 'pad', pad),
        key => key, op => op);
    insert into torture.ledger (event_id, outbox, line, seq, type, txn, how)
    values (id, publish.outbox, publish.line, drawn, publish.type, publish.txn, publish.how);
    return id;
end
$$;
