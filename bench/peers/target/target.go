// Package target is where a peer's loop reads and writes. It is handed to the
// process of the loop in its environment.
package target

import (
	"encoding/json"
	"fmt"
	"os"
)

// Variable is the environment variable that holds a Target.
const Variable = "PEERS_TARGET"

// Target is one database and one stream.
type Target struct {
	// Postgres and NATS are addresses.
	Postgres, NATS string
	// Stream is the stream's name, Subject the one subject that it has.
	Stream, Subject string
	// Durable is the consumer of a loop that reads the stream.
	Durable string
}

// Environment is the setting that FromEnvironment reads.
func (t Target) Environment() string {
	text, _ := json.Marshal(t) // strings: it cannot fail
	return Variable + "=" + string(text)
}

// FromEnvironment is the target that this process was started with.
func FromEnvironment() (t Target, err error) {
	if err := json.Unmarshal([]byte(os.Getenv(Variable)), &t); err != nil {
		return t, fmt.Errorf("read %s: %w", Variable, err)
	}
	return t, nil
}
