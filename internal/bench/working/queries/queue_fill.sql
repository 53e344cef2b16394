insert into job (payload)
select jsonb_build_object('n', g, 'text', repeat('x', $2::integer - 30))
from generate_series(1, $1::integer) g
