-- What somebody decides after a restore. Locks: the pipeline's row, its owner's.

-- Says why a saved position cannot be gone on from, or null. Whatever crash,
-- backup or promotion the database went through, a position that it saved lies
-- behind the last id drawn. Where it does not, the log was reset or tables were
-- restored singly, and what is published next would get ids that the position
-- takes for delivered.
--
-- Only ids count. That xids went back (pg_resetwal) hides nothing: what is
-- published from now on has greater ids than the position, and is found by them.
create or replace function tide.position_beyond(saved tide.pipeline_position) returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    drawn bigint := (select s.last_value from tide.outbox_event_id_seq s);
begin
    if saved.last_id > drawn then
        return format('it has delivered id %s and the last id drawn is %s', saved.last_id, drawn);
    end if;
    return null;
end
$$;
comment on function tide.position_beyond(tide.pipeline_position) is
'Why a saved position cannot be gone on from, or null.';

create or replace function tide.relay_adopt(name text) returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    pipeline tide.pipeline;
    here     integer := tide.node_look();
    done     text;
begin
    pipeline := tide.pipeline_find(name);
    if pipeline.incarnation < here then
        done := format('pipeline "%s" runs in this database from now on', name);
    elsif pipeline.direction = 'reverse' then
        delete from tide.pipeline_mark m where m.pipeline_id = pipeline.id;
        done := format('pipeline "%s" goes on from where its consumer is; what the database lacks is not asked for again', name);
    elsif (
        select tide.position_beyond(p)
        from tide.pipeline_position p
        where p.pipeline_id = pipeline.id
        order by p.seq desc
        limit 1) is not null
    then
        perform tide.outbox_raise_ids();
        perform tide.pipeline_forget_position(pipeline.id);
        done := format('pipeline "%s" sends again all that its outbox retains, with the same event ids', name);
    else
        done := format('nothing stood in the way of pipeline "%s"', name);
    end if;
    update tide.pipeline p
    set incarnation = here,
        adopted_at = clock_timestamp(),
        version = p.version + 1,
        updated_at = now()
    where p.id = pipeline.id;
    perform pg_notify('tide_relay', name);
    return done;
end
$$;
comment on function tide.relay_adopt(text) is
'Lets a pipeline go on that stopped because its database is a copy, was restored, or lost what its far end has; says what that means. Run it again when the pipeline then stops for another reason.
Example: select tide.relay_adopt(''orders-to-nats'');';

-- Ids must lie above all that any position takes for delivered.
create or replace function tide.outbox_raise_ids() returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    drawn   bigint := (select s.last_value from tide.outbox_event_id_seq s);
    highest bigint := greatest(
        (select max(e.id) from tide.outbox_event e),
        (select max(p.last_id) from tide.pipeline_position p));
begin
    if highest > drawn then
        perform setval('tide.outbox_event_id_seq', highest);
    end if;
end
$$;
comment on function tide.outbox_raise_ids() is
'Makes the next id greater than every id that was ever delivered.';

create or replace function tide.relay_adoptable() returns table (name text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    here integer := tide.node_look();
begin
    return query select p.name from tide.pipeline p where p.incarnation < here order by p.name;
end
$$;
comment on function tide.relay_adoptable() is
'The pipelines that were configured in another database, of which this one is a copy, a restore or an upgrade; they wait for tide.relay_adopt.
Example: select tide.relay_adopt(name) from tide.relay_adoptable();';
