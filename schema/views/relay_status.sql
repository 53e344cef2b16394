-- What each pipeline does, and in words why it does not. A relay that was
-- silent for seven seconds is dead.
create or replace view tide.relay_status as
select
    p.name as pipeline,
    p.direction,
    coalesce(b.name, i.name) as endpoint,
    p.enabled,
    case
        when not p.enabled then 'paused'
        when r.id is null then 'unowned'
        when s.reported_at is null or s.reported_at < o.since then 'starting'
        else s.state
    end as state,
    case
        when not p.enabled then format('paused; resume it with: select tide.relay_enable(%L);', p.name)
        when r.id is null and not exists (
            select from tide.relay_instance l
            where l.heartbeat_at > clock_timestamp() - interval '7 seconds')
        then 'no relay is running for this database; start one with: pg-tide --postgres-url URL'
        when r.id is null then 'no relay has taken it over yet'
        when s.reported_at is null or s.reported_at < o.since then 'the relay is starting it'
        else s.reason
    end as reason,
    coalesce(w.events, s.lag_events) as lag_events,
    coalesce(w.exact, case when s.lag_events is not null then false end) as lag_exact,
    case
        when w.oldest is not null then greatest(0, extract(epoch from clock_timestamp() - w.oldest)::double precision)
        when p.direction = 'forward' then 0
    end as lag_seconds,
    s.last_error,
    s.last_error_at,
    case when r.id is not null then r.host || ':' || r.pid end as owner,
    r.id as owner_id,
    coalesce(s.delivered, 0) as delivered,
    coalesce(s.filtered, 0) as filtered,
    coalesce(s.failed, 0) as failed,
    case when p.enabled and r.id is not null then coalesce(s.rate_per_second, 0) else 0 end as rate_per_second,
    (select count(*) from tide.dead_letter d where d.pipeline_id = p.id) as dead_letters,
    s.reported_at,
    case when h.oldest + b.retention < clock_timestamp() then h.oldest + b.retention end as holds_retention_since
from tide.pipeline p
left join tide.outbox b on b.id = p.outbox_id
left join tide.inbox i on i.id = p.inbox_id
left join tide.pipeline_owner o on o.pipeline_id = p.id
left join tide.relay_instance r
    on r.id = o.relay_id and r.heartbeat_at > clock_timestamp() - interval '7 seconds'
left join tide.pipeline_state s on s.pipeline_id = p.id
left join lateral tide.pipeline_pending(p.id) w on true
left join lateral (
    select tide.pipeline_oldest(p.id, array(select l.part from tide.outbox_part l where l.outbox_id = p.outbox_id)) as oldest
    where p.outbox_id is not null
) h on true;
comment on view tide.relay_status is 'What each pipeline does, how far behind it is and why nothing moves; lag_events of a forward pipeline is exact to 100,000 and estimated above.';
comment on column tide.relay_status.state is 'paused, unowned, or what the relay says: starting, running, waiting, blocked, misconfigured, stopped.';
comment on column tide.relay_status.reason is 'In words why nothing moves; null when all is well.';
comment on column tide.relay_status.lag_events is 'Forward: events of the outbox that were not delivered. Reverse: messages that the source had left when the relay last reported (reported_at); null when the source does not say.';
comment on column tide.relay_status.lag_exact is 'Whether lag_events was counted just now; false for estimates, and for what a source said.';
comment on column tide.relay_status.lag_seconds is 'How long the oldest event waits that was not delivered; null for reverse pipelines: their sources say how much is left, and not since when.';
comment on column tide.relay_status.owner is 'Host and process of the relay at work; null when there is none.';
comment on column tide.relay_status.holds_retention_since is 'Since when an event that the pipeline has not delivered keeps its outbox from being emptied; null when none does.';
