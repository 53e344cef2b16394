package kafka_test

import (
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/broker/kafka"
)

// Starting, killing and logging in are tested where tests get their brokers:
// internal/testkit/kafkatest.

func TestRefusesAClusterThatHasNoMajority(t *testing.T) {
	t.Parallel()
	_, err := kafka.New(t.Context(), &kafka.Programs{}, kafka.Options{Dir: t.TempDir(), Brokers: 2})
	if err == nil || !strings.Contains(err.Error(), "a cluster of 2 brokers was asked for: it has 1 or 3") {
		t.Errorf("got %v", err)
	}
}

func TestEachListenerHasAPortOfItsOwn(t *testing.T) {
	t.Parallel()
	c, err := kafka.New(t.Context(), &kafka.Programs{}, kafka.Options{Dir: t.TempDir(), Brokers: 3, Ways: 2})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	all := append(append(append(c.Addresses(), c.TLSAddresses()...), c.LoginAddresses()...), c.LoginTLSAddresses()...)
	for _, n := range c.Nodes {
		all = append(all, n.Way(0), n.Way(1))
	}
	for _, address := range all {
		if seen[address] {
			t.Errorf("%s is given twice", address)
		}
		seen[address] = true
	}
}
