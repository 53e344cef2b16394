-- The number of an inbox, and its name so that it can be missing too; null
-- where this role may not insert into it.
select tide.inbox_id($1::text) as id,
       has_table_privilege(format('tide.%I', $1::text || '_inbox'), 'insert') as insertable
