-- $1 the last id, $2 how many
select id, event_id::text, payload::text from outbox where id > $1 order by id limit $2
