-- Statements that a captured table's own triggers make while one that fired
-- them is not over. Who may run these, see outbox_capture_changed.sql.
--
-- Locks: those of tide.outbox_publish; rows of the transaction's own events.

-- Remembers that a statement on a captured table has begun: the capture, the
-- depth, and how long the list of nested events was then. By this,
-- outbox_capture_changed knows what the table's own triggers have published
-- while the statement ran.
create or replace function tide.outbox_capture_began() returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform set_config('tide.capture_open',
        concat(current_setting('tide.capture_open', true), ' ', tg_argv[0], '/', pg_trigger_depth(), '/',
            coalesce(length(current_setting('tide.capture_nested', true)), 0)), true);
    return null;
end
$$;
comment on function tide.outbox_capture_began() is
'Trigger of captured tables: a statement begins.';

-- A statement of one of the table's own triggers has published already when
-- the statement that fired it, which came first, publishes. Example: insert a
-- row; a trigger updates it; the update is published, and then the insert with
-- the row as it was, which consumers would keep. So the nested events of these
-- keys are published again, behind. Nobody else has seen them: they are this
-- transaction's own.
create or replace function tide.outbox_capture_reorder(
    capture   text,
    outbox_id integer,
    part      integer,
    first_id  bigint,
    mark      integer,
    inner_one boolean
) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    list  text := coalesce(current_setting('tide.capture_nested', true), '');
    since text := coalesce(substr(list, mark + 1), '');
begin
    with range as (
        select r[1]::bigint as low, r[2]::bigint as high
        from regexp_matches(since, concat(' ', capture, '/(\d+)-(\d+)'), 'g') r
    ), moved as (
        delete from tide.outbox_event e
        using range
        where e.part in (select p.part from tide.outbox_part p where p.outbox_id = outbox_capture_reorder.outbox_id)
            and e.xid = pg_current_xact_id() and e.id between range.low and range.high
            and exists (
                select
                from tide.outbox_event l
                where l.part = outbox_capture_reorder.part and l.xid = pg_current_xact_id() and l.id > first_id
                    and l.key is not distinct from e.key)
        returning e.*
    )
    insert into tide.outbox_event (part, event_id, stream, key, op, payload, headers)
    select outbox_capture_reorder.part, m.event_id, m.stream, m.key, m.op, m.payload, m.headers
    from moved m
    order by m.id;

    list := left(list, mark) || regexp_replace(since, concat(' ', capture, '/\d+-\d+'), '', 'g');
    if inner_one then
        list := concat(list, ' ', capture, '/', first_id, '-', nextval('tide.outbox_event_id_seq'));
    end if;
    perform set_config('tide.capture_nested', list, true);
end
$$;
comment on function tide.outbox_capture_reorder(text, integer, integer, bigint, integer, boolean) is
'Puts the events of nested statements behind those of the statement around them.';
