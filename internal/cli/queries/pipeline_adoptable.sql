-- The pipelines that were configured in another database.
select a.name
from tide.relay_adoptable() a
order by a.name
