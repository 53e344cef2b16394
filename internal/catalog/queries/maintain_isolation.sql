-- What is removed is looked at under the lock on it, not by an older snapshot,
-- whatever the role's default is. It comes first in its transaction.
set transaction isolation level read committed
