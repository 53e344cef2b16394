-- What this database is. Locks: one row of tide.node, when it is written.

-- The id of this database, made when something needs it first: a dump brings
-- the id along, and a row made at installation would collide with it.
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
        insert into tide.node default values on conflict (singleton) do nothing;
        select n.database_id into id from tide.node n;
    end if;
    return id;
end
$$;
comment on function tide.node_id() is
'The id that this database''s events carry in their source.';

-- Called by a relay when it starts. The first one writes down which cluster
-- and database it works in. When a later one finds others there, the database
-- is a copy or was restored: the xids in its rows and positions belong to
-- another history, so the incarnation grows and floor_id remembers up to which
-- id the rows come from there.
create or replace function tide.node_check(
    system_identifier bigint,
    database_oid      oid,
    out database_id   uuid,
    out incarnation   integer,
    out floor_id      bigint
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    node tide.node;
begin
    if system_identifier is null or database_oid is null then
        raise exception using
            errcode = '22004',
            message = 'system_identifier or database_oid is null',
            hint = 'Take them from pg_control_system() and pg_database.';
    end if;
    perform tide.node_id();
    select n.* into node from tide.node n for update;
    if node.system_identifier is null then
        update tide.node n
        set system_identifier = node_check.system_identifier, database_oid = node_check.database_oid
        returning n.* into node;
    elsif node.system_identifier <> node_check.system_identifier
        or node.database_oid <> node_check.database_oid
    then
        update tide.node n
        set system_identifier = node_check.system_identifier,
            database_oid = node_check.database_oid,
            incarnation = n.incarnation + 1,
            floor_id = (select case when s.is_called then s.last_value else 0 end from tide.outbox_event_id_seq s)
        returning n.* into node;
    end if;
    database_id := node.database_id;
    incarnation := node.incarnation;
    floor_id := node.floor_id;
end
$$;
comment on function tide.node_check(bigint, oid) is
'Called by a relay at its start: notices that the database was restored or copied, and returns its id and incarnation.';
