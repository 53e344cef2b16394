package demo

import "fmt"

// arrival is an event at the end of a hop, in the order of arrival there.
type arrival struct {
	id  string
	key string
	seq int64
}

// verdict is the difference between what should have arrived and what did.
type verdict struct {
	wanted, arrived                     int
	lost, doubled, invented, outOfOrder int
	// example names the first event of each kind of trouble.
	example []string
}

func (v verdict) clean() bool {
	return v.lost+v.doubled+v.invented+v.outOfOrder == 0
}

func (v verdict) String() string {
	return fmt.Sprintf("lost %d, doubled %d, invented %d, out of order %d", v.lost, v.doubled, v.invented, v.outOfOrder)
}

// add sums up the hops.
func (v verdict) add(other verdict) verdict {
	return verdict{
		wanted: v.wanted + other.wanted, arrived: v.arrived + other.arrived,
		lost: v.lost + other.lost, doubled: v.doubled + other.doubled,
		invented: v.invented + other.invented, outOfOrder: v.outOfOrder + other.outOfOrder,
		example: append(v.example, other.example...),
	}
}

// identity is what an event is recognised by, whatever id it arrives with.
type identity struct {
	key string
	seq int64
}

// compare finds what is missing, what came twice, what was never committed
// (rolled back, filtered out, or with another id), and what came before an
// earlier one of its key.
func compare(wanted []event, arrived []arrival) verdict {
	v := verdict{wanted: len(wanted), arrived: len(arrived)}
	ids := make(map[identity]string, len(wanted))
	for _, e := range wanted {
		ids[identity{e.key, e.seq}] = e.id
	}
	seen := make(map[identity]bool, len(arrived))
	last := map[string]int64{}
	for _, a := range arrived {
		who := identity{a.key, a.seq}
		id, known := ids[who]
		switch {
		case !known || id != a.id:
			v.note(v.invented, "invented", who, a.id)
			v.invented++
			continue
		case seen[who]:
			v.note(v.doubled, "doubled", who, a.id)
			v.doubled++
			continue
		case a.seq < last[a.key]:
			v.note(v.outOfOrder, "out of order", who, a.id)
			v.outOfOrder++
		}
		seen[who] = true
		last[a.key] = max(last[a.key], a.seq)
	}
	for _, e := range wanted {
		if who := (identity{e.key, e.seq}); !seen[who] {
			v.note(v.lost, "lost", who, e.id)
			v.lost++
		}
	}
	return v
}

func (v *verdict) note(before int, what string, who identity, id string) {
	if before == 0 {
		v.example = append(v.example, fmt.Sprintf("%s: event %d of %s (%s)", what, who.seq, who.key, id))
	}
}
