-- A letter of the policy park_key holds its key; one that only waits behind
-- another was never attempted.
alter table tide.dead_letter add column holds_key boolean not null default false;
comment on column tide.dead_letter.holds_key is 'Whether later events of the key wait for this one, as on_error park_key has it.';
comment on column tide.dead_letter.attempts is 'How often delivery was tried; 0 for an event that was parked behind another of its key.';
-- who holds a key up, and what follows by itself once nobody does
create index dead_letter_holding_idx on tide.dead_letter (pipeline_id, key, id)
    where holds_key and attempts > 0 and retry_requested_at is null;
create index dead_letter_parked_idx on tide.dead_letter (pipeline_id, id)
    where holds_key and attempts = 0;
