-- The roles belong to the cluster: made when missing and where the installing
-- role may, never dropped. What each may do is in grants.sql.
do $$
declare
    role_name text;
begin
    foreach role_name in array array[
        'tide_admin', 'tide_operator', 'tide_relay', 'tide_publisher', 'tide_consumer', 'tide_reader']
    loop
        continue when to_regrole(role_name) is not null;
        begin
            execute format('create role %I nologin', role_name);
        exception
            -- Made meanwhile by an installation in another database.
            when duplicate_object or unique_violation then
                null;
            when insufficient_privilege then
                raise notice using
                    message = format('role %s was not created: the installing role may not create roles', role_name),
                    hint = format('Have it created (create role %s nologin) and install again, or go without it.', role_name);
        end;
    end loop;
end
$$;
