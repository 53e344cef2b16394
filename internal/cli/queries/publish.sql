-- The event's id. Parameters are text, as they came from the command line.
select tide.outbox_publish(
    outbox   => $1::text,
    stream   => $2::text,
    payload  => $3::text::jsonb,
    headers  => $4::text::jsonb,
    key      => $5::text,
    op       => $6::text,
    event_id => $7::text::uuid
)::text
