-- Inboxes of a version that gave each a single partition get three and a
-- memory. Their rows stay where they are. Done once.
do $$
declare
    inbox record;
begin
    for inbox in
        select i.id, i.name
        from tide.inbox i
        where not exists (select from tide.inbox_rotation r where r.inbox_id = i.id)
        order by i.id
    loop
        perform tide.inbox_create_partition(inbox.id, inbox.name || '_inbox');
    end loop;
    if not exists (
        select from pg_trigger t
        where t.tgrelid = 'tide.inbox_message'::regclass and t.tgname = 'remember_deleted')
    then
        execute tide.inbox_delete_trigger('inbox_message');
    end if;
end
$$;
