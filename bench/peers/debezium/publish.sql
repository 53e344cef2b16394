-- $1 key, $2 payload
insert into outbox (id, aggregatetype, aggregateid, type, payload) values (gen_random_uuid(), 'orders', $1, 'insert', $2)
