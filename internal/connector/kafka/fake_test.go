package kafka_test

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// fake is a broker in the test's memory, for faults that a real one has only
// on bad days.
type fake struct{ *kfake.Cluster }

func startFake(t testing.TB, options ...kfake.Opt) *fake {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.DefaultNumPartitions(1)}, options...)...)
	if err != nil {
		t.Fatalf("start a fake cluster: %v", err)
	}
	t.Cleanup(cluster.Close)
	return &fake{cluster}
}

func (f *fake) brokers() string { return strings.Join(f.ListenAddrs(), ",") }

func (f *fake) create(t testing.TB, topic string, partitions int32, configs map[string]string) {
	t.Helper()
	if err := f.CreateTopic(topic, partitions, configs); err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
}
