select lpad(round((100 * (total_exec_time + total_plan_time) / sum(total_exec_time + total_plan_time) over ())::numeric, 1)::text, 5) as "share %",
       lpad(calls::text, 8) as calls,
       lpad(round((total_plan_time + total_exec_time)::numeric)::text, 8) as "ms",
       lpad(round((1000 * total_plan_time / greatest(plans, 1))::numeric)::text, 7) as "plan µs",
       lpad(round((1000 * mean_exec_time)::numeric)::text, 9) as "execute µs",
       lpad(round(rows::numeric / greatest(calls, 1), 1)::text, 7) as "rows/call",
       left(regexp_replace(query, '\s+', ' ', 'g'), 110) as statement
  from pg_stat_statements
 where toplevel
   and query !~* '^(create|drop|do|alter|vacuum|analyze|comment|grant|revoke|/\*)'
 order by total_exec_time + total_plan_time desc
 limit 18;
