do $$
begin
    if pg_catalog.to_regclass('tide.node') is not null then
        raise exception using
            errcode = '42710',
            message = 'schema tide is already here, installed without the extension',
            hint = 'Upgrade it with: pg-tide install; or remove it first: pg-tide uninstall.';
    end if;
end
$$;
