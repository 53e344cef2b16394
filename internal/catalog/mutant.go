package catalog

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/pg-tide/pg-tide/internal/fault"
	"github.com/pg-tide/pg-tide/internal/message"
)

// What is here is wrong on purpose and not part of any binary without the tag
// tide_faults. Wrong statements are made out of the right ones, so that they
// stay like them in all else; a text that is not found makes one that fails.

// fenced returns the statement, or one that lets anybody write.
func fenced(sql string) string {
	if fault.Mutant(fault.NoFence) {
		return unfenced(sql)
	}
	return sql
}

func unfenced(sql string) string {
	sql = altered(sql, "o.relay_id = $2 and o.fence = $3", "($2::uuid, $3::bigint) is not null")
	sql = altered(sql, "coalesce(o.server_started_at, pg_postmaster_start_time()) = pg_postmaster_start_time()", "true")
	for _, table := range []string{"tide.pipeline_position", "tide.pipeline_mark"} {
		if strings.Contains(sql, "insert into "+table) {
			// the key of the saves would be a fence too
			number := "$4::bigint"
			if strings.Contains(sql, "$16::bigint") { // with the messages that it stands for
				number = "$16::bigint"
			}
			sql = altered(sql, "select o.pipeline_id, "+number+",", `select o.pipeline_id, (
				select greatest(`+number+`, coalesce(max(p.seq), 0) + 1)
				from `+table+` p
				where p.pipeline_id = $1),`)
		}
	}
	return sql
}

// pageSettings returns the settings of a page's statement, or some that let
// its commit not wait for the disk. A position in memory outlives what it saw
// only then: else nothing that it saw can be taken back.
func pageSettings() string {
	if fault.Mutant(fault.ReadUnflushed) || fault.Mutant(fault.PositionInMemory) {
		return unflushed()
	}
	return pageSettingsSQL
}

func unflushed() string {
	sql := altered(pageSettingsSQL, "current_setting('synchronous_commit') = 'off'", "true")
	return altered(sql, "'local'", "'off'")
}

// altered replaces what must be there exactly once. Else the statement fails
// with the sentence, in the test that prepares them all and wherever it is used.
func altered(sql, old, wrong string) string {
	if n := strings.Count(sql, old); n != 1 {
		return fmt.Sprintf("the mutation does not fit this statement any more: it has %d times %s", n, old)
	}
	return strings.Replace(sql, old, wrong, 1)
}

// unknown gives events ids that no inbox has seen.
func unknown(messages []message.Message) []message.Message {
	messages = slices.Clone(messages)
	for i := range messages {
		messages[i].EventID += "~" + rand.Text()
	}
	return messages
}
