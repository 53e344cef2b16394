-- The last id drawn for any outbox. It changes before an event is committed,
-- and not at all while nobody publishes.
select s.last_value
from tide.outbox_event_id_seq s
