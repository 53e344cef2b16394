-- Everything that schema tide consists of, a line for each thing.
with ours as (
    select n.oid from pg_catalog.pg_namespace n where n.nspname = 'tide'
)
select l.line
from (
    select format('relation %s %s owner %s rls %s options %s acl %s partition of %s bound %s',
        c.relkind, c.relname, pg_get_userbyid(c.relowner), c.relrowsecurity, c.reloptions,
        (select array_agg(a::text order by a::text) from unnest(c.relacl) a),
        (select p.relname from pg_inherits i join pg_class p on p.oid = i.inhparent where i.inhrelid = c.oid),
        pg_get_expr(c.relpartbound, c.oid)) as line
    from pg_class c where c.relnamespace in (select oid from ours) and c.relkind not in ('i', 'c')
    union all
    select format('column %s.%s %s %s not null %s default %s identity %s acl %s', c.relname, a.attnum, a.attname,
        format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attidentity,
        (select array_agg(x::text order by x::text) from unnest(a.attacl) x))
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
    left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    where c.relnamespace in (select oid from ours) and c.relkind not in ('i', 'S')
    union all
    select format('constraint %s %s %s', coalesce(c.relname, '-'), k.conname, pg_get_constraintdef(k.oid))
    from pg_constraint k left join pg_class c on c.oid = k.conrelid
    where k.connamespace in (select oid from ours)
    union all
    select format('index %s', pg_get_indexdef(i.indexrelid))
    from pg_index i join pg_class c on c.oid = i.indrelid
    where c.relnamespace in (select oid from ours)
    union all
    select format('sequence %s %s %s %s %s', c.relname, format_type(s.seqtypid, null), s.seqstart, s.seqincrement, s.seqcache)
    from pg_sequence s join pg_class c on c.oid = s.seqrelid
    where c.relnamespace in (select oid from ours)
    union all
    select format('function %s owner %s acl %s definition %s', p.oid::regprocedure, pg_get_userbyid(p.proowner),
        (select array_agg(a::text order by a::text) from unnest(p.proacl) a), pg_get_functiondef(p.oid))
    from pg_proc p where p.pronamespace in (select oid from ours) and p.prokind = 'f'
    union all
    select format('view %s %s', c.relname, pg_get_viewdef(c.oid))
    from pg_class c where c.relnamespace in (select oid from ours) and c.relkind = 'v'
    union all
    select format('policy %s %s %s using %s check %s', p.tablename, p.policyname, p.cmd, p.qual, p.with_check)
    from pg_policies p where p.schemaname = 'tide'
    union all
    select format('trigger %s %s', t.tgrelid::regclass, pg_get_triggerdef(t.oid))
    from pg_trigger t join pg_class c on c.oid = t.tgrelid
    where c.relnamespace in (select oid from ours) and not t.tgisinternal
    union all
    select format('comment on relation %s %s: %s', c.relname, d.objsubid, d.description)
    from pg_description d join pg_class c on c.oid = d.objoid and d.classoid = 'pg_class'::regclass
    where c.relnamespace in (select oid from ours)
    union all
    select format('comment on function %s: %s', p.oid::regprocedure, d.description)
    from pg_description d join pg_proc p on p.oid = d.objoid and d.classoid = 'pg_proc'::regclass
    where p.pronamespace in (select oid from ours)
    union all
    select format('schema owner %s acl %s comment %s', pg_get_userbyid(n.nspowner),
        (select array_agg(a::text order by a::text) from unnest(n.nspacl) a), obj_description(n.oid, 'pg_namespace'))
    from pg_namespace n where n.nspname = 'tide'
) l
order by l.line
