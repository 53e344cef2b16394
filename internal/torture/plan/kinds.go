// Package plan draws from a seed what is done to a bus and when. It does
// nothing itself, and the same seed and options always give the same schedule.
package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is a kind of fault.
type Kind string

// The faults that come and go on a schedule.
const (
	RelayKill     Kind = "relay-kill"      // SIGKILL of a relay
	RelayFreeze   Kind = "relay-freeze"    // SIGSTOP for longer than the lease, then SIGCONT
	RelayStop     Kind = "relay-stop"      // SIGTERM of a relay
	BackendKill   Kind = "backend-kill"    // pg_terminate_backend of relays, workers and publishers
	PostgresCrash Kind = "postgres-crash"  // immediate stop of PostgreSQL, and restart
	BrokerKill    Kind = "broker-kill"     // SIGKILL of NATS, and restart
	BrokerFull    Kind = "broker-full"     // the stream takes no more bytes
	BrokerDisk    Kind = "broker-disk"     // the disk under NATS is full; NATS starts again when it has room
	BrokerCut     Kind = "broker-cut"      // connections between a relay and NATS are closed and refused
	BrokerDelay   Kind = "broker-delay"    // they are slow
	BrokerSilent  Kind = "broker-silent"   // they pass nothing, and go on later
	BrokerHalf    Kind = "broker-half"     // NATS's end is closed and the relay is not told
	DatabaseCut   Kind = "database-cut"    // the same between a relay and PostgreSQL
	DatabaseDelay Kind = "database-delay"  //
	DatabaseStall Kind = "database-silent" //
	DatabaseHalf  Kind = "database-half"   //
	SlowInsert    Kind = "slow-insert"     // a lock on an inbox for a while
	Pause         Kind = "pause"           // a pipeline is paused and resumed
	Reconfigure   Kind = "reconfigure"     // batch size and lanes change
	Maintain      Kind = "maintain"        // tide.maintain(): partitions rotate
	RelayClock    Kind = "relay-clock"     // a relay's wall clock jumps by hours, and back
)

// The conditions that hold all the time.
const (
	AsyncCommit    Kind = "async-commit"    // publishers with synchronous_commit = off
	OldTransaction Kind = "old-transaction" // transactions with an xid stay open throughout
	WorkerCrash    Kind = "worker-crash"    // workers that drop their connection in the midst
	Poison         Kind = "poison"          // events that the broker refuses
)

// All lists every kind, in the order in which they are shown.
func All() []Kind {
	return append(Scheduled(), AsyncCommit, OldTransaction, WorkerCrash, Poison)
}

// Scheduled lists the kinds that come and go.
func Scheduled() []Kind {
	return []Kind{RelayKill, RelayFreeze, RelayStop, BackendKill, PostgresCrash, BrokerKill, BrokerFull,
		BrokerDisk, BrokerCut, BrokerDelay, BrokerSilent, BrokerHalf,
		DatabaseCut, DatabaseDelay, DatabaseStall, DatabaseHalf,
		SlowInsert, Pause, Reconfigure, Maintain, RelayClock}
}

// Parse reads a list of kinds: names separated by commas, "all", "none", and
// "-name" to leave one out. A list that only leaves out starts from all.
func Parse(list string) ([]Kind, error) {
	chosen := map[Kind]bool{}
	words := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	if len(words) == 0 || strings.HasPrefix(words[0], "-") {
		words = append([]string{"all"}, words...)
	}
	for _, word := range words {
		name, without := strings.CutPrefix(word, "-")
		switch kind := Kind(name); {
		case word == "none":
			clear(chosen)
		case name == "all":
			for _, one := range All() {
				chosen[one] = !without
			}
		case slices.Contains(All(), kind):
			chosen[kind] = !without
		default:
			return nil, fmt.Errorf("there is no fault %q; known are %s, and all and none", word, Names(All()))
		}
	}
	var kinds []Kind
	for _, kind := range All() {
		if chosen[kind] {
			kinds = append(kinds, kind)
		}
	}
	return kinds, nil
}

// Names joins kinds for people.
func Names(kinds []Kind) string {
	texts := make([]string, len(kinds))
	for i, kind := range kinds {
		texts[i] = string(kind)
	}
	return strings.Join(texts, ", ")
}

// span is how long a fault of a kind lasts: from..to.
type span struct{ from, to time.Duration }

// lasting says for how long each kind lasts. A frozen relay outlasts its
// lease of eight seconds most of the time.
func lasting(kind Kind) span {
	switch kind {
	case RelayFreeze:
		return span{4 * time.Second, 14 * time.Second}
	case RelayKill, RelayStop:
		return span{0, 12 * time.Second}
	case PostgresCrash, BrokerKill:
		return span{0, 3 * time.Second}
	case DatabaseStall: // now and then for longer than the lease: statements come late
		return span{time.Second, 13 * time.Second}
	case BrokerFull, BrokerDisk, BrokerCut, BrokerSilent, BrokerHalf, DatabaseCut, DatabaseHalf, RelayClock:
		return span{time.Second, 8 * time.Second}
	case BrokerDelay, DatabaseDelay:
		return span{2 * time.Second, 8 * time.Second}
	case SlowInsert:
		return span{500 * time.Millisecond, 2 * time.Second}
	case Pause:
		return span{500 * time.Millisecond, 4 * time.Second}
	default:
		return span{}
	}
}
