-- The keys that a pipeline's configuration may have.
create or replace function tide.config_keys()
returns table (
    technology text,
    direction  text,
    key        text,
    kind       text,
    alias_of   text,
    choices    text[],
    required   boolean
)
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    values
    ('common', 'forward', 'sink_type', 'string', null, '{nats}'::text[], true),
    ('common', 'reverse', 'source_type', 'string', null, '{nats}', true),
    ('common', null, 'batch_size', 'integer', null, null, false),
    ('common', null, 'lanes', 'integer', null, null, false),
    ('common', null, 'wire_format', 'string', null, '{native,cloudevents}', false),
    ('common', null, 'transform', 'object', null, null, false),
    ('common', null, 'transform.filter', 'string', null, null, false),
    ('common', null, 'transform.payload', 'string', null, null, false),
    ('common', null, 'transform.language', 'string', null, '{jmespath,cel}', false),
    ('common', 'forward', 'routing', 'object', null, null, false),
    ('common', 'forward', 'routing.rules', 'array', null, null, false),
    ('common', 'forward', 'routing.default', 'string', null, null, false),
    ('common', null, 'on_error', 'string', null, '{block,park_key,dead_letter}', false),
    ('common', null, 'max_attempts', 'integer', null, null, false),
    ('common', null, 'rate_limit', 'object', null, null, false),
    ('common', null, 'rate_limit.max_messages_per_second', 'number', null, null, false),
    ('common', null, 'rate_limit.burst_size', 'integer', null, null, false),
    ('common', null, 'circuit_breaker', 'object', null, null, false),
    ('common', null, 'circuit_breaker.failure_threshold', 'integer', null, null, false),
    ('common', null, 'circuit_breaker.open_seconds', 'number', null, null, false),
    ('nats', null, 'url', 'string', null, null, true),
    ('nats', null, 'subject', 'string', null, null, false),
    ('nats', 'forward', 'subject_template', 'string', null, null, false),
    ('nats', null, 'stream', 'string', null, null, false),
    ('nats', null, 'create_stream', 'boolean', null, null, false),
    ('nats', null, 'storage', 'string', null, '{file,memory}', false),
    ('nats', null, 'replicas', 'integer', null, null, false),
    ('nats', null, 'duplicate_window', 'string', null, null, false),
    ('nats', null, 'credentials_file', 'string', null, null, false),
    ('nats', null, 'credentials', 'string', 'credentials_file', null, false),
    ('nats', null, 'nkey_seed', 'string', null, null, false),
    ('nats', null, 'token', 'string', null, null, false),
    ('nats', null, 'username', 'string', null, null, false),
    ('nats', null, 'password', 'string', null, null, false),
    ('nats', null, 'tls_ca_file', 'string', null, null, false),
    ('nats', null, 'tls_ca_cert', 'string', 'tls_ca_file', null, false),
    ('nats', null, 'tls_cert_file', 'string', null, null, false),
    ('nats', null, 'tls_key_file', 'string', null, null, false),
    ('nats', null, 'tls_server_name', 'string', null, null, false),
    ('nats', 'reverse', 'durable_name', 'string', null, null, false),
    ('nats', 'reverse', 'consumer', 'string', 'durable_name', null, false),
    ('nats', 'reverse', 'consumer_group', 'string', null, null, false),
    ('nats', 'reverse', 'queue_group', 'string', 'consumer_group', null, false),
    ('nats', 'reverse', 'ack_wait_secs', 'integer', null, null, false),
    ('nats', 'reverse', 'deliver_from', 'string', null, null, false),
    ('nats', 'reverse', 'auto_offset_reset', 'string', 'deliver_from', null, false),
    ('nats', 'reverse', 'max_ack_pending', 'integer', null, null, false)
$$;
comment on function tide.config_keys() is
'The keys that a pipeline''s configuration may have.';
