-- Stores what pipelines say about themselves, of those that the relay still owns.
--
-- $1 relay, $2 to $12 one array for each column
insert into tide.pipeline_state as s
    (pipeline_id, state, reason, last_error, last_error_at, delivered, filtered, failed, rate_per_second, lag_events)
select r.pipeline_id, r.state, nullif(r.reason, ''), nullif(r.last_error, ''),
       clock_timestamp() - make_interval(secs => r.last_error_age),
       r.delivered, r.filtered, r.failed, r.rate_per_second, r.lag_events
from unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::double precision[],
            $8::bigint[], $9::bigint[], $10::bigint[], $11::double precision[], $12::bigint[])
    as r (pipeline_id, fence, state, reason, last_error, last_error_age, delivered, filtered, failed, rate_per_second, lag_events)
join tide.pipeline_owner o on o.pipeline_id = r.pipeline_id and o.fence = r.fence and o.relay_id = $1
on conflict (pipeline_id) do update
set state = excluded.state,
    reason = excluded.reason,
    last_error = excluded.last_error,
    last_error_at = excluded.last_error_at,
    delivered = excluded.delivered,
    filtered = excluded.filtered,
    failed = excluded.failed,
    rate_per_second = excluded.rate_per_second,
    lag_events = excluded.lag_events,
    reported_at = clock_timestamp()
