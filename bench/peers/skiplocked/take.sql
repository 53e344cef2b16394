-- $1 how many
delete from outbox
where id in (select id from outbox order by id limit $1 for update skip locked)
returning id, event_id::text, payload::text
