-- Settings for the page's statement, which follows in the same transaction
-- and round trip. Outboxes grow faster than they are analysed, and without
-- statistics the planner takes a backlog for a few rows to be scanned and
-- sorted. One plan does for every page: to make another for each costs a third
-- of reading it. A commit that does not wait for the disk would not protect what is read.
select set_config('enable_seqscan', 'off', true),
       set_config('enable_bitmapscan', 'off', true),
       set_config('jit', 'off', true),
       set_config('plan_cache_mode', 'force_generic_plan', true),
       case
           when current_setting('synchronous_commit') = 'off' then set_config('synchronous_commit', 'local', true)
       end
