-- What an inbox remembers of messages that are gone, and how the relay asks.

-- A uuid is its own key; of any other event id it is half of the SHA-256.
-- Without a SET clause, to be put into the statements that call it; its names
-- were bound when it was created.
create or replace function tide.inbox_memory_key(event_id text) returns uuid
language sql
stable
begin atomic
    select case
        when event_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then event_id::uuid
        else encode(substr(sha256(convert_to(event_id, 'UTF8')), 1, 16), 'hex')::uuid
    end;
end;
comment on function tide.inbox_memory_key(text) is
'What an inbox keeps of an event id when the message is gone: 16 bytes.';

-- Which of the event ids are known outside the current part, in their order;
-- null when there is nothing but the current part.
--
-- The statement is planned anew each time, for what the parts hold then, and
-- without sequential scans: a plan made while a part was empty would read it
-- whole for each event id when it is full.
create or replace function tide.inbox_known(inbox_id integer, current_part integer, event_ids text[]) returns boolean[]
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
    lookups text;
    known   boolean[];
begin
    select string_agg(
        case p.kind
            when 'messages' then format('coalesce((select true from tide.inbox_message_%1$s_%2$s o
                where o.inbox_id = %1$s and o.event_id = m.event_id limit 1), false)', p.inbox_id, p.part)
            else format('coalesce((select true from tide.inbox_memory_%1$s_%2$s o
                where o.event = m.key limit 1), false)', p.inbox_id, p.part)
        end,
        ' or ' order by p.opened_at desc)
    into lookups
    from tide.inbox_part p
    where p.inbox_id = inbox_known.inbox_id
        and p.opened_at is not null
        and (p.kind = 'memory' or p.part <> current_part);
    if lookups is null then
        return null;
    end if;
    execute format(
        'select array_agg(%s order by m.place)
        from (select e.event_id, e.place, tide.inbox_memory_key(e.event_id) as key
              from unnest($1) with ordinality e (event_id, place)) m', lookups)
    into known
    using event_ids;
    return known;
end
$$;
comment on function tide.inbox_known(integer, integer, text[]) is
'Which event ids an inbox knows from older messages, or remembers.';

-- Called by a relay before it inserts, in the same transaction: says which
-- part takes the messages, and which of them are known already.
--
-- Locks: the inbox's advisory lock, shared, to the end of the transaction. The
-- part does not change while somebody has it, so whoever inserts into the next
-- part sees all that was inserted into this one: two relays at the change of
-- parts cannot both insert an event.
--
-- oldest and newest are the times at which the batch's events were published;
-- null when not all are known, or not to be relied upon. An event that is
-- younger than the part before, with an hour for clocks that differ, cannot be
-- in it, nor in any memory: then nothing is looked up but the current part's
-- unique index. Times from the future are written down and count likewise.
create or replace function tide.inbox_enter(
    inbox_id    integer,
    event_ids   text[],
    oldest      timestamptz,
    newest      timestamptz,
    out part    integer,
    out known   boolean[],
    out version xid8
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    rotation tide.inbox_rotation;
begin
    -- Under a snapshot from before the lock, what others inserted would be overlooked.
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception using
            errcode = '25001',
            message = format('messages are inserted into an inbox in READ COMMITTED only, and this transaction is %s',
                upper(current_setting('transaction_isolation'))),
            hint = 'Begin it with: begin isolation level read committed.';
    end if;
    perform pg_advisory_xact_lock_shared(1953063015, inbox_id);
    select r.* into rotation from tide.inbox_rotation r where r.inbox_id = inbox_enter.inbox_id;
    part := rotation.part;
    version := rotation.changed_by;
    if newest > clock_timestamp() + interval '1 hour' and newest > coalesce(rotation.latest, '-infinity') then
        update tide.inbox_rotation r
        set latest = newest + interval '1 hour'
        where r.inbox_id = inbox_enter.inbox_id and newest > coalesce(r.latest, '-infinity');
    end if;
    if oldest is null or oldest <= rotation.horizon then
        known := tide.inbox_known(inbox_id, part, event_ids);
    end if;
end
$$;
comment on function tide.inbox_enter(integer, text[], timestamptz, timestamptz) is
'Called by a relay before it inserts into an inbox: which part takes the messages, which of them are known.';

-- Called by a relay after it inserted. Rows that were removed by hand between
-- the look-up and the insert were in neither: then the transaction fails, and
-- the relay starts it again.
create or replace function tide.inbox_leave(inbox_id integer, version xid8) returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select
        from tide.inbox_rotation r
        where r.inbox_id = inbox_leave.inbox_id and r.changed_by is distinct from inbox_leave.version)
    then
        raise exception using
            errcode = '40001',
            message = format('messages of inbox %s were removed meanwhile', inbox_id),
            hint = 'Run the transaction again.';
    end if;
end
$$;
comment on function tide.inbox_leave(integer, xid8) is
'Called by a relay after it inserted into an inbox: fails when messages were removed meanwhile.';

-- Says that messages leave their part in another way than by its exchange, so
-- that relays which looked before and insert now start again; and that events
-- as young as the horizon may be in the memory. Once a transaction.
-- Locks: the inbox's row of tide.inbox_rotation.
create or replace function tide.inbox_changed(inbox_id integer, horizon timestamptz) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update tide.inbox_rotation r
    set changed_by = pg_current_xact_id(),
        horizon = greatest(r.horizon, inbox_changed.horizon)
    where r.inbox_id = inbox_changed.inbox_id and r.changed_by is distinct from pg_current_xact_id();
end
$$;
comment on function tide.inbox_changed(integer, timestamptz) is
'Makes relays look for event ids in an inbox''s memory.';

-- The time after which no event was published that an inbox has received by now.
create or replace function tide.inbox_horizon(latest timestamptz) returns timestamptz
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select greatest(clock_timestamp() + interval '1 hour', latest)
$$;
comment on function tide.inbox_horizon(timestamptz) is
'The time after which no event was published that an inbox has received by now; an hour is for clocks that differ.';

-- From now on something is in the current part of the memory.
create or replace function tide.inbox_memory_open(inbox_id integer) returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update tide.inbox_part p
    set opened_at = clock_timestamp()
    where p.inbox_id = inbox_memory_open.inbox_id and p.kind = 'memory' and p.opened_at is null
        and p.part = (select r.memory_part from tide.inbox_rotation r where r.inbox_id = inbox_memory_open.inbox_id)
$$;
comment on function tide.inbox_memory_open(integer) is
'Notes that something is in the current part of an inbox''s memory.';

-- Whoever deletes messages by hand leaves their event ids in the memory. The
-- trigger of the relation that was named in the statement gets all rows.
create or replace function tide.inbox_remember_deleted() returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform tide.inbox_memory_open(r.inbox_id),
            tide.inbox_changed(r.inbox_id, tide.inbox_horizon(r.latest))
    from tide.inbox_rotation r
    where r.inbox_id in (select g.inbox_id from gone g);
    insert into tide.inbox_memory (event, inbox_id, part)
    select tide.inbox_memory_key(g.event_id), r.inbox_id, r.memory_part
    from gone g
    join tide.inbox_rotation r on r.inbox_id = g.inbox_id;
    return null;
end
$$;
comment on function tide.inbox_remember_deleted() is
'Keeps the event ids of messages that are deleted.';

-- Before a part is truncated: what is not yet in the memory goes there.
create or replace function tide.inbox_remember_truncated() returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    of_inbox integer := split_part(tg_table_name, '_', 3);
    of_part  integer := split_part(tg_table_name, '_', 4);
begin
    perform tide.inbox_changed(of_inbox, tide.inbox_horizon((select r.latest from tide.inbox_rotation r where r.inbox_id = of_inbox)));
    perform tide.inbox_remember(of_inbox, of_part, null);
    -- The part begins anew, and may get messages with lower ids.
    update tide.inbox_part p
    set remembered_id = 0
    where p.inbox_id = of_inbox and p.kind = 'messages' and p.part = of_part;
    return null;
end
$$;
comment on function tide.inbox_remember_truncated() is
'Keeps the event ids of messages that are truncated.';

-- Copies event ids of a part into the memory, where the last copy stopped;
-- returns how many.
create or replace function tide.inbox_remember(inbox_id integer, part integer, max_messages bigint) returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    copied bigint;
    last   bigint;
begin
    execute format(
        'with wanted as materialized (
            select m.id, m.event_id
            from tide.inbox_message_%1$s_%2$s m
            where m.inbox_id = %1$s
                and m.id > (select p.remembered_id from tide.inbox_part p
                            where p.inbox_id = %1$s and p.kind = ''messages'' and p.part = %2$s)
            order by m.id
            limit $1
        ),
        added as (
            insert into tide.inbox_memory (event, inbox_id, part)
            select tide.inbox_memory_key(w.event_id), r.inbox_id, r.memory_part
            from wanted w
            join tide.inbox_rotation r on r.inbox_id = %1$s
        )
        select count(*), max(w.id) from wanted w', inbox_id, part)
    into copied, last
    using max_messages;
    if copied > 0 then
        perform tide.inbox_memory_open(inbox_id);
    end if;
    update tide.inbox_part p
    set remembered_id = last
    where copied > 0 and p.inbox_id = inbox_remember.inbox_id and p.kind = 'messages' and p.part = inbox_remember.part;
    return copied;
end
$$;
comment on function tide.inbox_remember(integer, integer, bigint) is
'Copies event ids of one part of an inbox into its memory.';
