-- The table of Debezium's page "Outbox Event Router".
create table outbox (
    id            uuid primary key,
    aggregatetype varchar(255) not null,
    aggregateid   varchar(255) not null,
    type          varchar(255) not null,
    payload       jsonb
);

create publication debezium for table outbox with (publish = 'insert');
