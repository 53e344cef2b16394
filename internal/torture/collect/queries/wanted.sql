-- What was published, by what is to become of it, and what became of poison.
select count(*) filter (where type <> 'poison'),
       count(*) filter (where type = 'order.created'),
       count(*) filter (where type = 'poison') - (select count(distinct d.event_id) from torture.discarded d),
       (select count(*) from tide.dead_letter)
from torture.ledger
