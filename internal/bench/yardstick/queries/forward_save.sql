update by_hand_position set last_id = $1
