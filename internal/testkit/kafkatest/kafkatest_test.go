package kafkatest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"go.uber.org/goleak"

	"github.com/pg-tide/pg-tide/internal/testkit/kafkatest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 2 * time.Minute

func produce(t *testing.T, client *kgo.Client, topic, value string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// values reads a topic from its beginning until it has that many.
func values(t *testing.T, c *kafkatest.Cluster, topic string, wanted int) string {
	t.Helper()
	client := c.Client(t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all []string
	for len(all) < wanted {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("got %v, want %d of them: %v", all, wanted, fetches.Err())
		}
		fetches.EachRecord(func(r *kgo.Record) { all = append(all, string(r.Value)) })
	}
	return strings.Join(all, " ")
}

func TestKeepsWhatItAcknowledgedThroughKillAndStop(t *testing.T) {
	t.Parallel()
	c := kafkatest.Start(t, kafkatest.Options{})
	c.CreateTopic(t, "kept", 1)
	must(t, produce(t, c.Client(t), "kept", "one"))
	c.Kill()
	c.Restart(t)
	must(t, produce(t, c.Client(t), "kept", "two"))
	must(t, c.Stop())
	c.Restart(t)
	must(t, produce(t, c.Client(t), "kept", "three"))
	if got := values(t, c, "kept", 3); got != "one two three" {
		t.Errorf("got %q", got)
	}
}

func TestFrozenAnswersNobodyUntilThawed(t *testing.T) {
	t.Parallel()
	c := kafkatest.Start(t, kafkatest.Options{Ways: 1})
	c.CreateTopic(t, "frozen", 1)
	client := c.Client(t)
	must(t, produce(t, client, "frozen", "one"))
	c.Freeze(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := client.Ping(ctx); err == nil {
		t.Error("a frozen broker answered")
	}
	c.Thaw(t)
	must(t, produce(t, client, "frozen", "two"))

	way, err := kgo.NewClient(kgo.SeedBrokers(c.Between(0).Brokers()))
	must(t, err)
	defer way.Close()
	must(t, produce(t, way, "frozen", "three"))
	c.Between(0).Cut()
	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := way.Ping(ctx); err == nil {
		t.Error("a way that was cut led to the broker")
	}
	must(t, produce(t, client, "frozen", "four"))
	c.Between(0).Mend()
	must(t, produce(t, way, "frozen", "five"))
}

func TestThreeBrokersTakeEventsWhileOneIsDead(t *testing.T) {
	t.Parallel()
	c := kafkatest.Start(t, kafkatest.Options{Brokers: 3})
	c.CreateTopic(t, "three", 3)
	client := c.Client(t)
	for broker := range 3 {
		must(t, produce(t, client, "three", fmt.Sprint("before", broker)))
		c.Nodes[broker].Kill()
		must(t, produce(t, client, "three", fmt.Sprint("after", broker)))
		c.Revive(t, broker)
	}
	values(t, c, "three", 6)
}

func TestLetsInThoseWhoLogIn(t *testing.T) {
	t.Parallel()
	certificates := kafkatest.NewCertificates(t)
	tokens := kafkatest.NewTokens(t)
	c := kafkatest.Start(t, kafkatest.Options{
		Certificates: certificates, MutualTLS: true, Tokens: tokens, Authorize: true,
		Users: map[string]string{"alice": "secret", "bob": "other"},
	})
	c.CreateTopic(t, "orders.created", 1)
	c.Allow(t, "alice", "orders.", kadm.OpWrite, kadm.OpDescribe)

	for name, mechanism := range map[string]sasl.Mechanism{
		"PLAIN":         plain.Auth{User: "alice", Pass: "secret"}.AsMechanism(),
		"SCRAM-SHA-256": scram.Auth{User: "alice", Pass: "secret"}.AsSha256Mechanism(),
		"SCRAM-SHA-512": scram.Auth{User: "alice", Pass: "secret"}.AsSha512Mechanism(),
		"OAUTHBEARER":   oauth.Auth{Token: tokens.Token(t, "alice", time.Hour)}.AsMechanism(),
	} {
		for place, options := range map[string][]kgo.Opt{
			"without TLS": {kgo.SeedBrokers(c.LoginBrokers())},
			"with TLS":    {kgo.SeedBrokers(c.LoginTLSBrokers()), kgo.DialTLSConfig(clientTLS(t, certificates))},
		} {
			t.Run(name+" "+place, func(t *testing.T) {
				t.Parallel()
				must(t, produce(t, connect(t, append(options, kgo.SASL(mechanism))...), "orders.created", name))
			})
		}
	}
	t.Run("a certificate", func(t *testing.T) {
		t.Parallel()
		client := connect(t, kgo.SeedBrokers(c.TLSBrokers()), kgo.DialTLSConfig(clientTLS(t, certificates)))
		must(t, client.Ping(t.Context()))
	})
	for name, mechanism := range map[string]sasl.Mechanism{
		"a wrong password":           plain.Auth{User: "alice", Pass: "wrong"}.AsMechanism(),
		"a token that has expired":   oauth.Auth{Token: tokens.Token(t, "alice", -time.Minute)}.AsMechanism(),
		"a token of somebody else's": oauth.Auth{Token: kafkatest.NewTokens(t).Token(t, "alice", time.Hour)}.AsMechanism(),
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			client := connect(t, kgo.SeedBrokers(c.LoginBrokers()), kgo.SASL(mechanism))
			if err := client.Ping(t.Context()); err == nil {
				t.Error("it was let in")
			}
		})
	}
	t.Run("refuses what no rule allows", func(t *testing.T) {
		t.Parallel()
		client := connect(t, kgo.SeedBrokers(c.LoginBrokers()), kgo.SASL(plain.Auth{User: "bob", Pass: "other"}.AsMechanism()))
		if err := produce(t, client, "orders.created", "no"); !errors.Is(err, kerr.TopicAuthorizationFailed) {
			t.Errorf("got %v", err)
		}
	})
}

func connect(t *testing.T, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(options, kgo.RequestRetries(3))...)
	must(t, err)
	t.Cleanup(client.Close)
	return client
}

func clientTLS(t *testing.T, c *kafkatest.Certificates) *tls.Config {
	t.Helper()
	authority, err := os.ReadFile(c.CA)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	own, err := tls.LoadX509KeyPair(c.ClientCert, c.ClientKey)
	must(t, err)
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{own}}
}
