package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startDemo starts `pg-tide demo` with its temporary files in a place that the
// test can look at.
func startDemo(t *testing.T, arguments ...string) (r *relay, place string) {
	t.Helper()
	place = t.TempDir()
	// PostgreSQL runs as another user when the test runs as root.
	if err := os.Chmod(filepath.Dir(place), 0o755); err != nil {
		t.Fatal(err)
	}
	command := newCommand(t, append([]string{"demo"}, arguments...)...)
	command.Env = append(os.Environ(), "TMPDIR="+place)
	return startProcess(t, "the demo", command), place
}

func checkNothingIsLeft(t *testing.T, place string) {
	t.Helper()
	left, err := os.ReadDir(place)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("the demo left %s behind", entry.Name())
	}
}

func TestDemoEndsWithZeros(t *testing.T) {
	t.Parallel()
	demo, place := startDemo(t, "--for", "10s", "--rate", "100")
	<-demo.exited
	if demo.err != nil {
		t.Fatalf("the demo ended with %v", demo.err)
	}
	for _, want := range []string{"lost 0, doubled 0, invented 0, out of order 0", "inbox_mark_processed", "the payment service stops", "rolled back"} {
		if !strings.Contains(demo.log.String(), want) {
			t.Errorf("the demo did not say %q:\n%s", want, demo.log.String())
		}
	}
	checkNothingIsLeft(t, place)
}

func TestDemoOverKafkaEndsWithZeros(t *testing.T) {
	t.Parallel()
	for name, arguments := range map[string][]string{
		"embedded": nil,
		"real":     {"--brokers", sharedKafka.Get(t).Brokers()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			demo, place := startDemo(t, append([]string{"--bus", "kafka", "--for", "10s", "--rate", "100"}, arguments...)...)
			<-demo.exited
			if demo.err != nil {
				t.Fatalf("the demo ended with %v", demo.err)
			}
			for _, want := range []string{"lost 0, doubled 0, invented 0, out of order 0", "its events wait in Kafka"} {
				if !strings.Contains(demo.log.String(), want) {
					t.Errorf("the demo did not say %q:\n%s", want, demo.log.String())
				}
			}
			checkNothingIsLeft(t, place)
		})
	}
}

func TestDemoLeavesNothingBehindWhenInterrupted(t *testing.T) {
	t.Parallel()
	demo, place := startDemo(t, "--for", "5m")
	demo.log.await(t, regexp.MustCompile(`(ready after)`))
	demo.signal(t, syscall.SIGINT)
	select {
	case <-demo.exited:
	case <-time.After(patience):
		t.Fatal("the demo did not end after SIGINT")
	}
	checkNothingIsLeft(t, place)
}
