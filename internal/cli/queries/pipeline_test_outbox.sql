-- Whether the outbox is there, and the database's id for the events' source.
select exists (select from tide.outbox o where o.name = $1::text),
       coalesce((select n.database_id from tide.node n), '00000000-0000-0000-0000-000000000000')::text
