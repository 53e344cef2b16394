-- Lets the database notice that it was restored or copied: the xids in its
-- rows and positions then belong to another history.
select n.database_id::text, n.incarnation, n.floor_id
from tide.node_check(
    (select s.system_identifier from pg_control_system() s),
    (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
) n
