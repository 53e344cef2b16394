update job
set state = 'taken', taken_at = now()
where id in (select id from job where state = 'waiting' order by id limit $1 for update skip locked)
returning id, payload
