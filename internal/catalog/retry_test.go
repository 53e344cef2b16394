package catalog

import (
	"errors"
	"testing"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// Somebody mends a configuration and then asks for a retry, while the relay
// still tries the letter by the configuration before: that failure is no
// answer to the request.
func TestALettersFailureUnderAnOldConfigurationKeepsTheRequestToRetryIt(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	spec := schematest.Reverse(t, pool, "i", relayA)
	spec.Version = 1
	c := open(t, dsn, relayA)
	old := c.DeadLetters(OwnerOf(spec))
	if err := old.Add(t.Context(), []message.DeadLetter{{Message: message.Message{EventID: "e"}, Error: "refused"}}); err != nil {
		t.Fatal(err)
	}
	retry := "select tide.dead_letter_retry('i-in', array(select id from tide.dead_letters))"
	fail := func(letters *DeadLetters) (left int) {
		t.Helper()
		due, err := letters.Due(t.Context(), 10, false)
		if err != nil || len(due) != 1 {
			t.Fatalf("due %v, %v", due, err)
		}
		if err := letters.Settle(t.Context(), due[0].ID, errors.New("still not")); err != nil {
			t.Fatal(err)
		}
		if due, err = letters.Due(t.Context(), 10, false); err != nil {
			t.Fatal(err)
		}
		return len(due)
	}
	schematest.Exec(t, pool, retry)
	if left := fail(old); left != 0 {
		t.Error("a letter that failed under the configuration of today is still due")
	}
	schematest.Exec(t, pool, "update tide.pipeline set version = 2 where name = 'i-in'")
	schematest.Exec(t, pool, retry)
	if left := fail(old); left != 1 {
		t.Error("a letter that failed under an old configuration is not due any more")
	}
	spec.Version = 2
	if left := fail(c.DeadLetters(OwnerOf(spec))); left != 0 {
		t.Error("a letter that failed under the new configuration is still due")
	}
}
