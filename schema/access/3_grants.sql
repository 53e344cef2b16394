-- Who may do what. Nothing is granted to PUBLIC. Of the roles, those that
-- exist get theirs; installing again gives the others what they missed.
-- tide_admin, the database's owner (pg_database_owner) and whoever created the
-- extension get all that is listed.
do $$
declare
    administrators name[] := array(
        select r.rolname
        from pg_roles r
        where (r.rolname in ('tide_admin', 'pg_database_owner')
                or r.oid = (select e.extowner from pg_extension e where e.extname = 'pg_tide'))
            and r.oid <> (select c.relowner from pg_class c where c.oid = 'tide.outbox'::regclass)
        order by r.rolname);
    entry    record;
    grantee  name;
    routine  regprocedure;
    relation regclass;
begin
    for entry in
        select g.kind, g.privilege, g.objects, g.roles
        from (values
            ('function', 'execute', '{outbox_create, outbox_create_if_not_exists, outbox_set, outbox_drop, outbox_grant_publish,
                outbox_revoke_publish, inbox_create, inbox_drop, relay_set_outbox, relay_set_inbox, relay_delete,
                node_renew,
                outbox_capture, outbox_capture_drop, outbox_capture_backfill, outbox_capture_set, outbox_capture_forget,
                outbox_capture_backfill_begin, outbox_capture_backfill_save, outbox_capture_count, outbox_capture_range,
                outbox_capture_of, outbox_capture_check_table, outbox_capture_check_options, outbox_capture_check_values,
                outbox_capture_check_columns, outbox_capture_refuse_option, outbox_capture_keys, outbox_capture_path,
                outbox_capture_primary_key, outbox_capture_row, outbox_capture_row_sql, outbox_capture_names, outbox_capture_join_keys, outbox_capture_left_out, outbox_capture_mask,
                outbox_capture_triggers, outbox_capture_began, outbox_capture_changed, outbox_capture_truncated}'::name[],
                '{}'::name[]),
            ('function', 'execute', '{outbox_enable, outbox_disable, relay_enable, relay_disable, relay_rewind,
                dead_letter_retry, dead_letter_discard, inbox_replay, relay_adopt, relay_adoptable}', '{tide_operator}'),
            ('function', 'execute', '{inbox_pending, inbox_mark_processed, inbox_mark_failed}', '{tide_consumer}'),
            -- A relay works an inbox too, when it pushes it on.
            ('function', 'execute', '{inbox_claim, inbox_extend, inbox_complete, inbox_fail, inbox_release}', '{tide_consumer, tide_relay}'),
            ('function', 'execute', '{inbox_id, inbox_is_ordered}', '{tide_consumer, tide_relay}'),
            ('function', 'execute', '{inbox_status}', '{tide_consumer, tide_operator, tide_reader}'),
            ('function', 'execute', '{outbox_status, pipeline_pending, relay_get_config, relay_list_configs}',
                '{tide_operator, tide_reader}'),
            ('function', 'execute', '{inbox_enter, inbox_leave, outbox_receive}', '{tide_relay}'),
            ('function', 'execute', '{maintain, inbox_maintain}', '{tide_operator, tide_relay}'),
            ('function', 'execute', '{pipeline_oldest}', '{tide_operator, tide_reader, tide_relay}'),
            ('function', 'execute', '{node_id, node_check, node_here, position_beyond}', '{tide_relay}'),
            ('function', 'execute', '{schema_version}',
                '{tide_operator, tide_relay, tide_publisher, tide_consumer, tide_reader}'),
            ('function', 'execute', '{config_keys}', '{tide_operator, tide_reader, tide_relay}'),
            -- What a capture's trigger calls runs as the schema's owner.
            ('function', 'none', '{outbox_capture_reorder, outbox_capture_refuse, outbox_capture_refuse_key, outbox_capture_refuse_old}', '{}'),
            ('function', 'none', '{outbox_turn, outbox_overdue, outbox_part_done, outbox_part_empty, publishing_now,
                outbox_received_forget, outbox_find, outbox_take_part, outbox_switch, outbox_describe, outbox_publish,
                outbox_publish_refuse, outbox_publish_many, outbox_publish_many_refuse, may_publish, role_name, publishing_grant, publishing_revoke, publishing_functions,
                check_name, check_retention, refuse_unknown, nearest_name, edit_distance,
                inbox_create_partition, inbox_create_part, inbox_delete_trigger, inbox_convert_partition, extension_release,
                inbox_memory_key, inbox_known, inbox_changed, inbox_horizon, inbox_memory_open, inbox_remember,
                inbox_remember_deleted, inbox_remember_truncated, inbox_open_parts, inbox_clean, inbox_move, inbox_truncate,
                inbox_forget, inbox_exchange, inbox_maintain_waits,
                inbox_create_lease_indexes, inbox_check_claim, inbox_check_lease, inbox_check_retry, inbox_source, inbox_prepare, inbox_start, inbox_start_at, inbox_expire,
                inbox_candidates, inbox_with_lease, inbox_refuse_lease, inbox_count_dead,
                inbox_message_id, inbox_backoff, inbox_describe, inbox_describe_memory, copy_grants,
                relay_set, relay_switch, rewind_first_id, rewind_count, node_look, outbox_raise_ids, pipeline_find, pipeline_describe, pipeline_forget_position,
                dead_letter_check_ids, config_check, config_technology, config_check_object, config_check_value,
                config_check_required, config_check_expressions, config_check_expression, config_warn_secret,
                config_refuse, config_refuse_key, config_mask, config_mask_text, config_is_secret, config_is_reference}', '{}'),

            ('table', 'select', '{relay_status, outbox_retention, outbox_captures, outbox_capture, dead_letters, outbox, outbox_part, inbox, outbox_event, inbox_message,
                inbox_rotation, inbox_part, inbox_memory,
                relay_instance, pipeline_owner, pipeline_position, pipeline_mark, pipeline_state, node}',
                '{tide_operator, tide_reader, tide_relay}'),
            ('table', 'select (id, name, direction, outbox_id, inbox_id, enabled, version, created_at, updated_at)',
                '{pipeline}', '{tide_operator, tide_reader}'),
            ('table', 'select', '{inbox_message}', '{tide_consumer}'),
            ('table', 'select', '{dead_letter_sent, pipeline, dead_letter}', '{tide_relay}'),
            ('table', 'select', '{outbox_publisher, inbox_message_0}', '{}'),
            ('table', 'select', '{outbox_id_seq, inbox_id_seq, pipeline_id_seq}', '{}'),
            ('table', 'select', '{outbox_event_id_seq}', '{tide_relay}'),
            ('table', 'select, insert', '{outbox_received}', '{tide_relay}'),
            ('table', 'select, usage', '{inbox_message_id_seq, dead_letter_id_seq}', '{tide_relay}'),
            ('table', 'insert', '{inbox_message}', '{tide_relay}'),
            ('table', 'insert, update, delete', '{relay_instance, pipeline_owner, pipeline_state, dead_letter}', '{tide_relay}'),
            ('table', 'insert, delete', '{pipeline_position, pipeline_mark, dead_letter_sent}', '{tide_relay}')
        ) g (kind, privilege, objects, roles)
    loop
        if entry.kind = 'function' then
            for routine in
                select p.oid from pg_proc p
                where p.pronamespace = 'tide'::regnamespace and p.proname = any(entry.objects)
            loop
                execute format('revoke execute on function %s from public', routine);
            end loop;
        end if;
        continue when entry.privilege = 'none';
        for grantee in
            select r.rolname from pg_roles r
            where r.rolname = any(entry.roles || administrators)
            order by r.rolname
        loop
            execute format('grant usage on schema tide to %I', grantee);
            if entry.kind = 'table' then
                for relation in
                    select c.oid from pg_class c
                    where c.relnamespace = 'tide'::regnamespace and c.relname = any(entry.objects)
                    order by c.relname
                loop
                    execute format('grant %s on %s to %I', entry.privilege, relation, grantee);
                end loop;
            else
                for routine in
                    select p.oid from pg_proc p
                    where p.pronamespace = 'tide'::regnamespace and p.proname = any(entry.objects)
                    order by p.proname
                loop
                    execute format('grant execute on function %s to %I', routine, grantee);
                end loop;
            end if;
        end loop;
    end loop;

    -- Publishing needs rights of its own kind.
    for grantee in
        select r.rolname from pg_roles r
        where r.rolname = any('{tide_publisher}' || administrators)
            or r.rolname in (select o.role_name from tide.outbox_publisher o)
        order by r.rolname
    loop
        perform tide.publishing_grant(grantee);
    end loop;

    -- Partitions of outboxes and inboxes that are there already.
    for entry in
        select t.relid, top.oid as parent
        from unnest(array['tide.outbox_event'::regclass, 'tide.inbox_message', 'tide.inbox_memory']) top (oid)
        cross join pg_partition_tree(top.oid) t
        where t.relid <> top.oid
        order by t.relid
    loop
        perform tide.copy_grants(entry.parent, entry.relid);
    end loop;
end
$$;
