-- What this database is. Locks: one row of tide.node, when it is written.

-- The id of this database, made when something needs it first: a dump brings
-- the id along, and a row made at installation would collide with it. Where it
-- is made is written down at once, so that a copy which is made before any
-- relay came is noticed too.
create or replace function tide.node_id() returns uuid
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    id uuid;
begin
    select n.database_id into id from tide.node n;
    if id is null then
        insert into tide.node (system_identifier, database_oid, timeline)
        select h.system_identifier, case when h.system_identifier is not null then h.database_oid end, h.timeline
        from tide.node_here() h
        on conflict (singleton) do nothing;
        select n.database_id into id from tide.node n;
    end if;
    return id;
end
$$;
comment on function tide.node_id() is
'The id that this database''s events carry in their source.';

-- Where we are. What a server refuses to tell is null, and is not compared.
create or replace function tide.node_here(
    out system_identifier bigint,
    out database_oid      oid,
    out timeline          integer
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    database_oid := (select d.oid from pg_database d where d.datname = current_database());
    begin
        system_identifier := (select s.system_identifier from pg_control_system() s);
    exception when others then
        system_identifier := null;
    end;
    begin
        -- the first eight digits of a segment's name
        timeline := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer;
    exception when others then
        timeline := null;
    end;
end
$$;
comment on function tide.node_here() is
'The cluster, the database and the timeline of the cluster''s log.';

-- Called by a relay at the start of each session. The first one writes down
-- which cluster and database it works in. When a later one finds others there,
-- the database is a copy or was restored: the xids in its rows and positions
-- belong to another history, so the incarnation grows and floor_id remembers up
-- to which id the rows come from there.
--
-- Another timeline means a promotion or a point-in-time restore. The history is
-- the same up to there, and prepared transactions of it may still commit, so
-- neither grows. noticed says in words what changed, to the one that saw it first.
create or replace function tide.node_check(
    system_identifier bigint,
    database_oid      oid,
    timeline          integer default null,
    out database_id   uuid,
    out incarnation   integer,
    out floor_id      bigint,
    out noticed       text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    node     tide.node;
    other    boolean;
    switched boolean;
begin
    if system_identifier is null or database_oid is null then
        raise exception using
            errcode = '22004',
            message = 'system_identifier or database_oid is null',
            hint = 'Take them from pg_control_system() and pg_database.';
    end if;
    perform tide.node_id();
    -- Twice at most: seen without a lock, and seen again under it. A lock each
    -- time would make relays wait for whoever configures in a long transaction.
    for attempt in 1..2 loop
        if attempt = 1 then
            select n.* into node from tide.node n;
        else
            select n.* into node from tide.node n for update;
        end if;
        other := (node.system_identifier, node.database_oid)
            is distinct from (node_check.system_identifier, node_check.database_oid);
        switched := node_check.timeline is not null and node.timeline is distinct from node_check.timeline;
        exit when not other and not switched;
    end loop;
    if other and node.system_identifier is not null then
        noticed := format('it was database %s of cluster %s and is now database %s of cluster %s: a copy, or restored or upgraded',
            node.database_oid, node.system_identifier, node_check.database_oid, node_check.system_identifier);
    elsif switched and node.timeline is not null then
        noticed := format('its log is on timeline %s after %s: a standby was promoted, or it was restored to a point in time',
            node_check.timeline, node.timeline);
    end if;
    if other or switched then
        update tide.node n
        set system_identifier = node_check.system_identifier,
            database_oid = node_check.database_oid,
            timeline = coalesce(node_check.timeline, n.timeline),
            incarnation = n.incarnation + (other and n.system_identifier is not null)::integer,
            floor_id = case
                when not other or n.system_identifier is null then n.floor_id
                else (select case when s.is_called then s.last_value else 0 end from tide.outbox_event_id_seq s)
            end
        returning n.* into node;
    end if;
    database_id := node.database_id;
    incarnation := node.incarnation;
    floor_id := node.floor_id;
end
$$;
comment on function tide.node_check(bigint, oid, integer) is
'Called by a relay at the start of a session: notices that the database was restored, copied or promoted, and returns its id and incarnation.';

-- The same from within, for functions that speak for a pipeline: who configures
-- a copy before any relay came must do so in the copy's own incarnation.
create or replace function tide.node_look() returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    here  record;
    found integer;
begin
    select * into here from tide.node_here();
    if here.system_identifier is null then
        perform tide.node_id();
        return (select n.incarnation from tide.node n);
    end if;
    select c.incarnation into found
    from tide.node_check(here.system_identifier, here.database_oid, here.timeline) c;
    return found;
end
$$;
comment on function tide.node_look() is
'Notices that the database was restored or copied, and returns its incarnation.';

create or replace function tide.node_renew() returns uuid
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    id uuid;
begin
    perform tide.node_look();
    update tide.node n
    set database_id = gen_random_uuid()
    returning n.database_id into id;
    -- running relays read the id together with their pipelines
    update tide.pipeline p
    set version = p.version + 1;
    perform pg_notify('tide_relay', '');
    return id;
end
$$;
comment on function tide.node_renew() is
'Gives a copy of a database that lives on beside the original an id of its own: the source of its events and the default name of its durable consumers change with it.
Example: select tide.node_renew();';
