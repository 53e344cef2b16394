comment on schema tide is 'pg_tide, an event bus: outboxes, inboxes and the relay''s configuration.';
