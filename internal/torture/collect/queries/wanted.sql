-- $1 type that counts, or null for all
select count(*) from torture.ledger where $1::text is null or type = $1
