-- The envelope of the Forwarder's publisher: destination, id and payload of
-- the message, the payload as base64.
create function envelope(event_id uuid, payload jsonb) returns json
language sql
as $$
select json_build_object(
    'destination_topic', 'peers.events',
    'uuid', event_id,
    'payload', translate(encode(convert_to(payload::text, 'UTF8'), 'base64'), E'\n', ''),
    'metadata', json_build_object())
$$;
