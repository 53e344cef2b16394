select coalesce(sum(lag_events), 0)::bigint from tide.relay_status where direction = 'forward'
