-- the event type of ours where nobody names one: stream and op
insert into outbox (id, aggregatetype, aggregateid, type, payload)
select id, aggregatetype, aggregateid, aggregatetype || '.insert', payload from layout order by id
