-- Secrets in configurations: recognising and hiding them. No lock.

-- Keys whose value is a secret.
create or replace function tide.config_is_secret(key text) returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select key ~* '(^|_)(password|passphrase|token|secret|seed|api_key|access_key|private_key)$'
$$;
comment on function tide.config_is_secret(text) is
'Whether the value of a configuration key is a secret.';

-- A reference such as ${env:NAME} says where a secret is and is none itself.
create or replace function tide.config_is_reference(value text) returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select value ~ '^\$\{(env|file):[^}]*\}$'
$$;
comment on function tide.config_is_reference(text) is
'Whether a configuration value is nothing but a reference to a secret.';

-- A text without the passwords in the URLs it holds; a token alone in front of
-- the @ is one too.
create or replace function tide.config_mask_text(value text) returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select regexp_replace(
        regexp_replace(value, '(://[^/@:,\s]*):(?!\$\{[^}]*\}@)[^/@]*@', '\1:***@', 'g'),
        '://(?!\$\{[^}]*\}@)[^/@:,\s]+@', '://***@', 'g')
$$;
comment on function tide.config_mask_text(text) is
'A text without the passwords in its URLs.';

create or replace function tide.config_mask(config jsonb) returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    case jsonb_typeof(config)
        when 'object' then
            return (
                select coalesce(jsonb_object_agg(
                    e.key,
                    case
                        when tide.config_is_secret(e.key) and not tide.config_is_reference(e.value #>> '{}') then '"***"'
                        else tide.config_mask(e.value)
                    end), '{}')
                from jsonb_each(config) e
            );
        when 'array' then
            return (select coalesce(jsonb_agg(tide.config_mask(e.value) order by e.ordinality), '[]')
                    from jsonb_array_elements(config) with ordinality e);
        when 'string' then
            return to_jsonb(tide.config_mask_text(config #>> '{}'));
        else
            return config;
    end case;
end
$$;
comment on function tide.config_mask(jsonb) is
'A configuration with its secrets replaced by ***; references to secrets stay.';
