truncate plain;
truncate tide.outbox_event;
checkpoint;
