create table if not exists by_hand_position as select 0::bigint as last_id
