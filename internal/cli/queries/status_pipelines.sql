select s.pipeline, s.direction, s.endpoint, s.enabled, s.state, s.reason, s.lag_events, s.lag_exact, round(s.lag_seconds::numeric, 1) as lag_seconds,
       s.last_error, s.last_error_at, s.owner, s.owner_id, s.delivered, s.filtered, s.failed,
       round(s.rate_per_second::numeric, 1) as rate_per_second, s.dead_letters, s.reported_at
from tide.relay_status s
order by s.pipeline
