create table job (id bigint generated always as identity primary key, payload jsonb not null, state text not null default 'waiting', taken_at timestamptz, done_at timestamptz);

create index on job (id) where state = 'waiting';
