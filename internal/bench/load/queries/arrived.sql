-- $1 the last message that was seen
select id, event_id from tide."arrived_inbox" where id > $1 order by id
