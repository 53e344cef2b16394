-- A dump keeps the rows of these tables and the values of these sequences. The
-- partitions are no members of the extension: a dump has them whole.
do $$
declare
    member regclass;
begin
    for member in
        select d.objid
        from pg_depend d
        join pg_extension e on e.oid = d.refobjid and d.refclassid = 'pg_extension'::regclass
        join pg_class c on c.oid = d.objid and d.classid = 'pg_class'::regclass
        where e.extname = 'pg_tide' and d.deptype = 'e' and c.relkind in ('r', 'S') and not c.relispartition
        order by c.relname
    loop
        perform pg_extension_config_dump(member, '');
    end loop;
end
$$;
