-- What a worker says about messages it has claimed. The token proves that it
-- has them still. Locks: the messages' rows until commit.

-- Changes rows that a token holds, and fails when one of them is not held by
-- it any more: then nothing of the transaction is to happen.
create or replace function tide.inbox_with_lease(
    inbox       text,
    lease_token uuid,
    ids         bigint[],
    change      text,
    pause       interval default null,
    again       boolean  default true
) returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
-- As in tide.inbox_claim.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
set intervalstyle = 'postgres'
as $$
declare
    settings  tide.inbox;
    statement text;
    changed   bigint[];
    lost      bigint[];
begin
    if lease_token is null or ids is null or array_position(ids, null) is not null then
        raise exception using
            errcode = '22004',
            message = format('%s of inbox "%s" %s null', case when lease_token is null then 'lease_token for messages' else 'ids of messages' end,
                inbox, case when lease_token is null then 'is' else 'are or contain' end),
            hint = 'Give what tide.inbox_claim returned.';
    end if;
    select i.* into settings from tide.inbox i where i.name = inbox_with_lease.inbox;
    if not found then
        perform tide.inbox_id(inbox);
    end if;
    -- Once: unlike others, a message that is leased is never moved to another part.
    -- Not distinct from, so that the index of leased messages is not read whole for
    -- it: while few are leased that seems cheap, and the plan is kept.
    statement := format(
        'with changed as (
            update %s m set %s
            where m.id = any($1) and num_nonnulls(m.processed_at, m.dead_at) < 1 and m.lease_token is not distinct from $2
            returning m.id
        )
        select coalesce(array_agg(c.id), ''{}'') from changed c',
        tide.inbox_source(settings), change);
    if again then
        execute format('execute %I (%L, %L, %L)', tide.inbox_prepare(statement, 'bigint[], pg_catalog.uuid, interval'), ids, lease_token, pause)
        into changed;
    else
        execute statement into changed using ids, lease_token, pause;
    end if;
    if cardinality(changed) < cardinality(ids) then
        lost := array(select i from unnest(ids) i except select c from unnest(changed) c);
        if cardinality(lost) > 0 then
            perform tide.inbox_refuse_lease(inbox, lease_token, lost);
        end if;
    end if;
    return cardinality(changed);
end
$$;
comment on function tide.inbox_with_lease(text, uuid, bigint[], text, interval, boolean) is
'Changes messages that a lease holds; an error when it does not hold all of them. Again says that the same change will be made again, to other messages, so that it is kept prepared.';

-- Says of the first of the messages why the lease is not good for it.
create or replace function tide.inbox_refuse_lease(inbox text, lease_token uuid, ids bigint[]) returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    first bigint := (select min(i) from unnest(ids) i);
    found record;
    why   text;
begin
    execute format('select m.id, m.processed_at, m.dead_at, m.leased_by, m.lease_token from tide.%I m where m.inbox_id = $1 and m.id = $2', inbox || '_inbox')
    into found
    using tide.inbox_id(inbox), first;
    why := case
        when found.id is null then 'there is no such message'
        when found.processed_at is not null then format('it was processed at %s', found.processed_at)
        when found.dead_at is not null then format('it became a dead letter at %s', found.dead_at)
        when found.lease_token is not null then format('worker "%s" has it now', found.leased_by)
        else 'nobody has it now'
    end;
    raise exception using
        errcode = 'TD001',
        message = format('lease %s of inbox "%s" was lost for %s: message %s, %s', lease_token, inbox,
            case when cardinality(ids) = 1 then 'one message' else cardinality(ids) || ' messages' end, first, why),
        hint = 'Roll back what was done for it; whoever has it now does it. Give longer leases, or extend them with tide.inbox_extend.';
end
$$;
comment on function tide.inbox_refuse_lease(text, uuid, bigint[]) is
'Says why a lease is not good for messages.';

create or replace function tide.inbox_complete(inbox text, lease_token uuid, ids bigint[]) returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return tide.inbox_with_lease(inbox, lease_token, ids,
        'processed_at = clock_timestamp(), next_attempt_at = null, dead_at = null, lease_token = null, leased_by = null');
end
$$;
comment on function tide.inbox_complete(text, uuid, bigint[]) is
'Marks claimed messages as processed, in the caller''s transaction; returns how many. An error (TD001) when the lease was lost for one of them, so that the transaction''s effects do not happen twice.
Example: select tide.inbox_complete(''payment_triggers'', ''3f0c2d3e-0000-4000-8000-000000000000'', array[42, 43]);';

create or replace function tide.inbox_extend(inbox text, lease_token uuid, ids bigint[], lease interval default '30 seconds') returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform tide.inbox_check_lease(inbox, lease);
    return tide.inbox_with_lease(inbox, lease_token, ids, 'next_attempt_at = clock_timestamp() + $3', lease);
end
$$;
comment on function tide.inbox_extend(text, uuid, bigint[], interval) is
'Lets a lease on claimed messages last for so long from now; returns how many. An error (TD001) when it was lost for one of them.
Example: select tide.inbox_extend(''payment_triggers'', ''3f0c2d3e-0000-4000-8000-000000000000'', array[42, 43], ''2 minutes'');';

create or replace function tide.inbox_release(inbox text, lease_token uuid, ids bigint[], retry_in interval default '0') returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    released bigint;
begin
    perform tide.inbox_check_retry(inbox, ids, retry_in);
    released := tide.inbox_with_lease(inbox, lease_token, ids,
        'next_attempt_at = clock_timestamp() + $3, attempts = m.attempts - 1, lease_token = null, leased_by = null', coalesce(retry_in, interval '0'));
    if released > 0 and coalesce(retry_in, interval '0') = interval '0' then
        perform pg_notify('tide_inbox_' || inbox, '');
    end if;
    return released;
end
$$;
comment on function tide.inbox_release(text, uuid, bigint[], interval) is
'Gives claimed messages back, to be had again at once or after retry_in; the attempt does not count. Returns how many. An error (TD001) when the lease was lost for one of them.
Example: select tide.inbox_release(''payment_triggers'', ''3f0c2d3e-0000-4000-8000-000000000000'', array[43], retry_in => ''10 minutes'');';

create or replace function tide.inbox_fail(
    inbox       text,
    lease_token uuid,
    ids         bigint[],
    error       text,
    retry_in    interval default null,
    give_up     boolean  default false
) returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    settings tide.inbox;
begin
    perform tide.inbox_check_retry(inbox, ids, retry_in);
    select i.* into settings from tide.inbox i where i.id = tide.inbox_id(inbox);
    perform tide.inbox_with_lease(inbox, lease_token, ids, format(
        'last_error = %L, lease_token = null, leased_by = null,
        dead_at = case when %L or m.attempts >= %s then clock_timestamp() end,
        next_attempt_at = clock_timestamp() + coalesce($3, tide.inbox_backoff(m.attempts))',
        coalesce(error, ''), coalesce(give_up, false), settings.max_attempts), retry_in, again => false);
    return tide.inbox_count_dead(inbox, ids);
end
$$;
comment on function tide.inbox_fail(text, uuid, bigint[], text, interval, boolean) is
'Notes that processing claimed messages failed. They are tried again (after retry_in, else after a pause that doubles with each failure), or are dead letters: those that were claimed max_attempts times, and all with give_up. Returns how many became dead letters. An error (TD001) when the lease was lost for one of them.
Example: select tide.inbox_fail(''payment_triggers'', ''3f0c2d3e-0000-4000-8000-000000000000'', array[42], ''card declined'', retry_in => ''5 minutes'');';

-- How many of the messages are dead letters.
create or replace function tide.inbox_count_dead(inbox text, ids bigint[]) returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    dead bigint;
begin
    execute format('select count(*) from tide.%I m where m.inbox_id = $1 and m.id = any($2) and m.dead_at is not null', inbox || '_inbox')
    into dead
    using tide.inbox_id(inbox), ids;
    return dead;
end
$$;
comment on function tide.inbox_count_dead(text, bigint[]) is
'How many of an inbox''s messages are dead letters.';

create or replace function tide.inbox_check_retry(inbox text, ids bigint[], retry_in interval) returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if retry_in < interval '0' then
        raise exception using
            errcode = '22023',
            message = format('retry_in %s for messages %s of inbox "%s" is negative', retry_in, ids, inbox),
            hint = 'Give the pause before the next attempt, or null to have it chosen.';
    end if;
end
$$;
comment on function tide.inbox_check_retry(text, bigint[], interval) is
'Refuses a pause that makes no sense.';
