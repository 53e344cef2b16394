-- Lets the database notice that it was restored or copied: the xids in its
-- rows and positions then belong to another history.
select n.database_id::text, n.incarnation, n.floor_id, coalesce(n.noticed, '')
from tide.node_here() h
cross join lateral tide.node_check(h.system_identifier, h.database_oid, h.timeline) n
