// Package world builds the bus that is tortured: PostgreSQL servers, NATS or
// Kafka in a process of its own, services with their databases, two relays for each,
// and a proxy in every connection of theirs. It offers the handles to break
// things with, and refuses to decide what is broken when.
package world

import (
	"embed"
	"fmt"
)

//go:embed queries/*.sql
var queryFiles embed.FS

// query returns the statement of that name. The files are part of the
// program, so a missing one is found by the first test that runs.
func query(name string) string {
	text, err := queryFiles.ReadFile("queries/" + name + ".sql")
	if err != nil {
		return fmt.Sprintf("-- no statement %q", name)
	}
	return string(text)
}
