-- Gives back the lock that says "somebody sleeps", and tells the sleepers of
-- other relays when no publisher has: they relied on it too.
--
-- $1 outbox, $2 whether to tell
select pg_advisory_unlock(1953063013, hashtext($1::text)),
       case when $2::boolean then pg_notify('tide_outbox', $1::text) end
