-- Takes the lock that says "somebody sleeps" on an outbox, for the session.
-- When it is not to be had, shared tells whose it is: a publisher's, if it
-- can be shared; another sleeping relay's, if not.
--
-- $1 outbox
select l.got,
       case
           when l.got then false
           when pg_try_advisory_lock_shared(1953063013, hashtext($1::text)) then pg_advisory_unlock_shared(1953063013, hashtext($1::text))
           else false
       end as shared
from (
    select pg_try_advisory_lock(1953063013, hashtext($1::text)) as got
    offset 0
) l
