-- Retention: an outbox's partitions as a ring. The current one takes new
-- events. When it is old or large, one from the reserve becomes current and it
-- is retired. A retired one is truncated whole once all in it is older than
-- the retention and was delivered by every pipeline: no deletes, so no bloat,
-- whatever snapshots are open.

create or replace function tide.outbox_set(
    name       text,
    retention  interval default null,
    warn_bytes bigint   default null
) returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    outbox tide.outbox := tide.outbox_find(name);
begin
    if retention is not null then
        perform tide.check_retention('outbox', name, retention);
    end if;
    if warn_bytes < 1 then
        raise exception using
            errcode = '22023',
            message = format('warn_bytes %s of outbox "%s" is not a size', warn_bytes, name),
            hint = 'Give a number of bytes, for instance pg_size_bytes(''10 GB'').';
    end if;
    update tide.outbox o
    set retention = coalesce(outbox_set.retention, o.retention),
        warn_bytes = coalesce(outbox_set.warn_bytes, o.warn_bytes)
    where o.id = outbox.id;
end
$$;
comment on function tide.outbox_set(text, interval, bigint) is
'Changes how long an outbox keeps its events, or above which size it is reported as a problem; what is null stays as it is.
Example: select tide.outbox_set(''order_events'', retention => ''3 days'', warn_bytes => pg_size_bytes(''50 GB''));';

-- When the oldest event was published that a pipeline has not delivered, among
-- those in some partitions; null when it has delivered them all. By the saved
-- position: what is above last_id, and what is above the floor and was not
-- seen by the snapshot, less what a round of late events has got to. The floor
-- is the position's, so one of another history is judged within that history.
-- Whoever removes events asks this; it has no upper bound of xids as reading
-- has, so that it may say too much and never too little. Index probes only: an
-- outbox grows faster than it is analysed, hence the settings. No lock.
create or replace function tide.pipeline_oldest(pipeline_id integer, parts integer[]) returns timestamptz
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    saved  tide.pipeline_position;
    oldest timestamptz;
    late   timestamptz;
begin
    select s.* into saved
    from tide.pipeline_position s
    where s.pipeline_id = pipeline_oldest.pipeline_id
    order by s.seq desc
    limit 1;
    execute format(
        'select e.published_at
        from tide.outbox_event e
        where e.part = any(%L) and e.id > $1
        order by e.id
        limit 1', parts)
    into oldest
    using coalesce(saved.last_id, 0);
    if saved.snapshot is null then
        return oldest;
    end if;
    execute format(
        'select min(t.published_at)
        from (
            select l.published_at, l.id, l.xid
            from pg_snapshot_xip($1) x (xid)
            cross join lateral (
                select e.published_at, e.id, e.xid
                from tide.outbox_event e
                where e.part = any(%1$L) and (e.xid, e.id) > (x.xid, $2) and (e.xid, e.id) <= (x.xid, $3)
            ) l
            union all
            select e.published_at, e.id, e.xid
            from tide.outbox_event e
            where e.part = any(%1$L) and e.xid >= pg_snapshot_xmax($1) and e.id > $2 and e.id <= $3
        ) t
        where not coalesce(t.id <= $5 and pg_visible_in_snapshot(t.xid, $4), false)', parts)
    into late
    using saved.snapshot, saved.floor_id, saved.last_id, saved.drain_snapshot, saved.drain_id;
    return least(oldest, late);
end
$$;
comment on function tide.pipeline_oldest(integer, integer[]) is
'When the oldest event was published that a pipeline has not delivered, among those in some partitions; null when there is none.';

-- Whether a partition may be emptied: retired, all in it older than the
-- retention, and delivered by every pipeline of the outbox, paused ones too.
-- The id follows the time of publishing, so the greatest id stands for the
-- newest event. One that a dropped outbox left may be emptied after its rest.
create or replace function tide.outbox_part_done(part integer) returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
    ring   tide.outbox_part;
    outbox tide.outbox;
    newest timestamptz;
begin
    select p.* into ring from tide.outbox_part p where p.part = outbox_part_done.part;
    if ring.outbox_id is null then
        return ring.used_since < clock_timestamp() - interval '1 hour'
            and pg_relation_size(format('tide.%I', 'outbox_event_' || part)::regclass) > 0;
    end if;
    select o.* into outbox from tide.outbox o where o.id = ring.outbox_id;
    if outbox.part = part or not coalesce(ring.retired_at + outbox.retention < clock_timestamp(), false) then
        return false;
    end if;
    execute format('select e.published_at from tide.%I e order by e.id desc limit 1', 'outbox_event_' || part) into newest;
    return coalesce(newest + outbox.retention < clock_timestamp(), true)
        and not exists (
            select
            from tide.pipeline p
            where p.outbox_id = ring.outbox_id and tide.pipeline_oldest(p.id, array[part]) is not null);
end
$$;
comment on function tide.outbox_part_done(integer) is
'Whether a partition of tide.outbox_event may be emptied: nothing in it is within the retention or undelivered.';

-- Empties a partition and puts it in reserve; false when it may not be emptied.
-- Locks: ACCESS EXCLUSIVE on the one partition to the end of the transaction.
-- New events go to another one, so publishers do not notice. What counts is
-- looked at under the lock: whoever published late into the partition has
-- ended then, and what they published is seen, since the caller's isolation is
-- READ COMMITTED. Without the lock, an event committed between the look and
-- the truncation would be lost.
create or replace function tide.outbox_part_empty(part integer) returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('lock table only tide.%I in access exclusive mode', 'outbox_event_' || part);
    if not tide.outbox_part_done(part) then
        return false;
    end if;
    execute format('truncate tide.%I', 'outbox_event_' || part);
    update tide.outbox_part p set retired_at = null where p.part = outbox_part_empty.part;
    return true;
end
$$;
comment on function tide.outbox_part_empty(integer) is
'Empties a partition of tide.outbox_event if it may be emptied; says whether it did.';

-- For how long it has been time for another partition; null when it is not.
-- It is when the current one holds something and has been current for a
-- quarter of the retention, or is large. When much is held back, "large" grows
-- with the outbox, so that there are never more than a few dozen partitions:
-- every page that is read has to look at all of them.
create or replace function tide.outbox_overdue(outbox tide.outbox) returns interval
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    late    interval;
    size    bigint := pg_total_relation_size(format('tide.%I', 'outbox_event_' || outbox.part)::regclass);
    retired bigint;
    kept    bigint;
begin
    if pg_relation_size(format('tide.%I', 'outbox_event_' || outbox.part)::regclass) = 0 then
        return null;
    end if;
    select clock_timestamp() - p.used_since - greatest(outbox.retention / 4, interval '1 minute') into late
    from tide.outbox_part p
    where p.part = outbox.part;
    select count(*), coalesce(sum(pg_total_relation_size(format('tide.%I', 'outbox_event_' || p.part)::regclass)), 0)
    into retired, kept
    from tide.outbox_part p
    where p.outbox_id = outbox.id and p.retired_at is not null;
    if size >= greatest(1073741824, kept / 8) or late >= interval '0' and (retired < 12 or size >= kept / 16) then
        return greatest(late, interval '0');
    end if;
    return null;
end
$$;
comment on function tide.outbox_overdue(tide.outbox) is
'For how long it has been time that another partition becomes the current one of an outbox; null when it is not.';

-- Transactions that have published something and not ended. What they know of
-- the partitions is from when they first did.
create or replace function tide.publishing_now() returns text[]
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(distinct l.virtualtransaction), '{}')
    from pg_locks l
    where l.locktype = 'relation'
        and l.database = (select d.oid from pg_database d where d.datname = current_database())
        and l.relation = 'tide.outbox_event'::regclass
        and l.mode = 'RowExclusiveLock'
        and l.pid is not null
$$;
comment on function tide.publishing_now() is
'The transactions that have published something and not ended.';

-- One step of an outbox's ring, if there is one to take: what was done, and
-- with which partition.
--
-- A partition is made one transaction ahead of its use, at least. A
-- transaction that has published before does not look again which partitions
-- there are; sent to one that was attached since, it would fail. So a new one
-- stays in reserve until every transaction has ended that was publishing after
-- the attachment was committed: unseen_by. The caller's advisory lock makes
-- sure that it was committed for everybody before anybody looks.
--
-- Then sessions are told once more, and those that publish meanwhile awaited
-- again: announced. Without it: a session lists the partitions before the
-- attachment's commit; while it looks up each of them the news comes in, finds
-- no list to discard yet, and is spent; the old list is kept, beyond the end of
-- the transaction, and the session's next one fails.
--
-- Locks: the outbox's row; SHARE UPDATE EXCLUSIVE on tide.outbox_event when a
-- partition is made or announced. Publishers do not notice either.
create or replace function tide.outbox_turn(outbox_id integer, out action text, out part integer)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    outbox tide.outbox;
    late   interval;
    taken  integer;
    known  boolean;
begin
    select o.* into outbox from tide.outbox o where o.id = outbox_turn.outbox_id for no key update skip locked;
    if not found then
        return;
    end if;
    update tide.outbox_part p
    set unseen_by = case
            when p.unseen_by is null then tide.publishing_now()
            else array(select unnest(p.unseen_by) intersect select unnest(tide.publishing_now()))
        end
    where p.outbox_id = outbox.id and p.unseen_by is distinct from '{}';
    -- Who looked up the outbox before the last rotation may have written since
    -- into what is in reserve by now.
    update tide.outbox_part p
    set retired_at = clock_timestamp()
    where p.outbox_id = outbox.id and p.part <> outbox.part and p.retired_at is null
        and pg_relation_size(format('tide.%I', 'outbox_event_' || p.part)::regclass) > 0;

    select p.part into part
    from tide.outbox_part p
    where p.outbox_id = outbox.id and p.unseen_by = '{}' and not p.announced
    limit 1;
    if found then
        -- Changes nothing, and makes every session discard what it knows of the table.
        alter table only tide.outbox_event alter column part set statistics -1;
        update tide.outbox_part p set announced = true, unseen_by = null where p.part = outbox_turn.part;
        action := 'announced';
        return;
    end if;

    late := tide.outbox_overdue(outbox);
    if late is null then
        return;
    end if;
    select p.part, p.unseen_by is not distinct from '{}' into taken, known
    from tide.outbox_part p
    where p.outbox_id = outbox.id and p.part <> outbox.part and p.retired_at is null
    order by p.unseen_by is distinct from '{}', p.part
    limit 1;
    if not found then
        -- One that will be emptied in a moment spares another partition.
        if late < outbox.retention / 20 + interval '10 seconds' and exists (
            select
            from tide.outbox_part p
            where p.outbox_id = outbox.id and p.retired_at is not null and tide.outbox_part_done(p.part))
        then
            return;
        end if;
        part := tide.outbox_take_part();
        update tide.outbox_part p
        set outbox_id = outbox.id, used_since = clock_timestamp(), retired_at = null, unseen_by = null, announced = false
        where p.part = outbox_turn.part;
        action := 'prepared';
        return;
    end if;
    if not known then
        return;
    end if;
    part := taken;
    update tide.outbox_part p set retired_at = clock_timestamp() where p.part = outbox.part;
    update tide.outbox_part p set used_since = clock_timestamp() where p.part = outbox_turn.part;
    update tide.outbox o set part = outbox_turn.part where o.id = outbox.id;
    action := 'rotated';
end
$$;
comment on function tide.outbox_turn(integer) is
'Takes one step of an outbox''s ring of partitions, if there is one to take, and says which.';
