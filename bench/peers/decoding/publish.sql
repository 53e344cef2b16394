-- $1 key, $2 payload
insert into outbox (key, payload) values ($1, $2)
