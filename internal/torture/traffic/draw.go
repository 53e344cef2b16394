package traffic

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// One event in poisonOdds is larger than the broker takes.
const (
	poisonOdds  = 100
	poisonBytes = 24 << 10
)

// planned is one event of a transaction, before its number is known.
type planned struct {
	key string // empty for none
	op  string
	typ string
	pad int
	// undone is published inside a savepoint that is rolled back.
	undone bool
}

// transaction is what a writer is about to do.
type transaction struct {
	how       string
	events    []planned
	bulk      int // events of a bulk, over bulkKeys keys
	bulkKeys  int
	isolation string
	async     bool
	early     time.Duration // wait after taking the xid
	takeXID   bool
	hold      time.Duration // wait before the end
	rollback  bool
	prepare   bool
}

func (t transaction) size() int { return t.bulk + len(t.events) }

// The kinds of transactions and how often each comes, in percent.
type share struct {
	how     string
	percent int
}

func shares() []share {
	return []share{
		{"plain", 34}, {"early-xid", 16}, {"waiting", 14}, {"savepoints", 12}, {"rolled-back", 8},
		{"prepared", 6}, {"asynchronous", 6}, {"repeatable-read", 3}, {"bulk", 1},
	}
}

func (p Publisher) draw(random *rand.Rand) transaction {
	left := random.IntN(100)
	t := transaction{how: shares()[0].how}
	for _, s := range shares() {
		if left < s.percent {
			t.how = s.how
			break
		}
		left -= s.percent
	}
	t.events = p.events(random, 1+random.IntN(3))
	t.hold = short(random)
	switch t.how {
	case "early-xid":
		t.takeXID, t.early = true, long(random)
	case "waiting":
		t.hold = long(random)
		t.cool()
	case "savepoints":
		t.events = append(t.events, p.events(random, 2)...)
		for i := range t.events {
			t.events[i].undone = random.IntN(3) == 0
		}
		t.sort()
	case "rolled-back":
		t.rollback = true
	case "prepared":
		t.prepare, t.rollback = p.Prepares, p.Prepares && random.IntN(5) == 0
		t.hold = long(random)
		t.cool()
	case "asynchronous":
		t.async = p.Asynchronous
	case "repeatable-read":
		t.isolation = "repeatable read"
	case "bulk":
		t.events, t.bulk, t.bulkKeys = nil, 100+random.IntN(400), 1+random.IntN(60)
		t.hold = long(random)
		t.rollback = random.IntN(10) == 0
	}
	return t
}

// short and long are how long transactions wait.
func short(random *rand.Rand) time.Duration {
	return time.Duration(random.IntN(5)) * time.Millisecond
}

func long(random *rand.Rand) time.Duration {
	switch random.IntN(60) {
	case 0:
		return time.Duration(random.IntN(4000)) * time.Millisecond
	case 1, 2, 3:
		return time.Duration(random.IntN(500)) * time.Millisecond
	default:
		return time.Duration(random.IntN(40)) * time.Millisecond
	}
}

// cool takes hot keys out of a transaction that keeps their locks for long.
func (t *transaction) cool() {
	for i := range t.events {
		if strings.HasPrefix(t.events[i].key, "hot") {
			t.events[i].key = "warm" + t.events[i].key
		}
	}
	t.sort()
}

// sort lets all transactions lock keys in one order, so that few deadlock.
func (t *transaction) sort() {
	slices.SortStableFunc(t.events, func(a, b planned) int { return strings.Compare(a.key, b.key) })
}

// events draws events, few of the keys hot and many cold, some without any.
func (p Publisher) events(random *rand.Rand, n int) []planned {
	t := transaction{events: make([]planned, n)}
	for i := range t.events {
		e := &t.events[i]
		switch at := random.IntN(100); {
		case at < 25:
			e.key = fmt.Sprintf("hot%d", random.IntN(6))
		case at < 60:
			e.key = fmt.Sprintf("w%03d", random.IntN(200))
		case at < 85:
			e.key = fmt.Sprintf("cold%05d", random.IntN(50000))
		}
		e.typ = p.Types[random.IntN(len(p.Types))]
		e.op = []string{"insert", "update"}[random.IntN(2)]
		e.pad = random.IntN(200)
		if random.IntN(poisonOdds) == 0 && p.Poison != "" {
			e.typ, e.pad = p.Poison, poisonBytes
		}
	}
	t.sort()
	return t.events
}
