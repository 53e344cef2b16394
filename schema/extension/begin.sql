do $$
begin
    if to_regclass('tide.node') is not null then
        raise exception using
            errcode = '42710',
            message = 'schema tide is already here, installed without the extension',
            hint = 'Upgrade it with: pg-tide install; or remove it first: pg-tide uninstall.';
    end if;
    if exists (select from pg_class c where c.relnamespace = 'tide'::regnamespace)
        or exists (select from pg_proc p where p.pronamespace = 'tide'::regnamespace)
    then
        raise exception using
            errcode = '42710',
            message = 'schema tide exists and holds objects that are not pg_tide''s',
            hint = 'Rename or drop it, then create the extension again.';
    end if;
end
$$;
