-- Dead letters of pipelines: trying again, giving up. Locks: the dead
-- letters' rows. Running relays are told on channel tide_relay.

create or replace function tide.dead_letter_retry(pipeline text, ids bigint[]) returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    asked_of tide.pipeline := tide.pipeline_find(pipeline);
    changed  bigint;
begin
    perform tide.dead_letter_check_ids(pipeline, ids);
    update tide.dead_letter d
    set retry_requested_at = clock_timestamp()
    where d.pipeline_id = asked_of.id and d.id = any(ids);
    get diagnostics changed = row_count;
    perform pg_notify('tide_relay', pipeline);
    return changed;
end
$$;
comment on function tide.dead_letter_retry(text, bigint[]) is
'Asks the relay to try dead letters again; returns how many there were of these. One that succeeds vanishes.
Example: select tide.dead_letter_retry(''orders-to-nats'', array(select id from tide.dead_letters where pipeline = ''orders-to-nats''));';

create or replace function tide.dead_letter_discard(pipeline text, ids bigint[]) returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    asked_of tide.pipeline := tide.pipeline_find(pipeline);
    changed  bigint;
begin
    perform tide.dead_letter_check_ids(pipeline, ids);
    delete from tide.dead_letter d
    where d.pipeline_id = asked_of.id and d.id = any(ids);
    get diagnostics changed = row_count;
    perform pg_notify('tide_relay', pipeline);
    return changed;
end
$$;
comment on function tide.dead_letter_discard(text, bigint[]) is
'Removes dead letters for good; returns how many there were of these.
Example: select tide.dead_letter_discard(''orders-to-nats'', array[7, 8]);';

create or replace function tide.dead_letter_check_ids(pipeline text, ids bigint[]) returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if ids is null then
        raise exception using
            errcode = '22004',
            message = format('ids of dead letters of pipeline "%s" is null', pipeline),
            hint = format('Name them, for instance: array(select id from tide.dead_letters where pipeline = %L).', pipeline);
    end if;
end
$$;
comment on function tide.dead_letter_check_ids(text, bigint[]) is
'Refuses null in place of the ids of dead letters.';
