-- An unknown name is refused by relay_get_config, which suggests the nearest.
select c.name as pipeline, s.direction, s.endpoint, s.enabled, s.state, s.reason, s.lag_events, s.lag_exact, round(s.lag_seconds::numeric, 1) as lag_seconds,
       s.last_error, s.last_error_at, s.owner, s.owner_id, s.delivered, s.filtered, s.failed,
       round(s.rate_per_second::numeric, 1) as rate_per_second, s.dead_letters, s.reported_at, c.version, c.config
from jsonb_to_record(tide.relay_get_config($1::text)) as c (name text, version bigint, config jsonb)
join tide.relay_status s on s.pipeline = c.name
