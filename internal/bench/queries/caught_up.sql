-- whether the pipeline has sent all there is
select coalesce(bool_and(r.lag_events = 0), false) from tide.relay_status r where r.direction = 'forward'
