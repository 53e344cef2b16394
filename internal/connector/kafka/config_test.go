package kafka_test

import (
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

func TestWrongConfigurationIsRefusedWithoutANetwork(t *testing.T) {
	t.Parallel()
	sink := values{"brokers": "127.0.0.1:1", "topic_template": "t"}
	for name, c := range map[string]struct {
		values values
		parts  []string
	}{
		"no broker":         {sink.with(values{"brokers": " , "}), []string{"brokers is empty", "kafka-1:9092"}},
		"a scheme":          {sink.with(values{"brokers": "kafka://u:geheim@h:1"}), []string{"kafka://h:1", "without a scheme"}},
		"no port":           {sink.with(values{"brokers": "kafka-1"}), []string{`"kafka-1"`, "host:port"}},
		"half a pair":       {sink.with(values{"tls_cert_file": "c.pem"}), []string{"tls_cert_file and tls_key_file belong together"}},
		"tls off and on":    {sink.with(values{"tls": false, "tls_ca_file": "c.pem"}), []string{"tls is false"}},
		"no mechanism":      {sink.with(values{"sasl_username": "u", "sasl_password": "geheim"}), []string{"without sasl_mechanism"}},
		"no password":       {sink.with(values{"sasl_mechanism": "SCRAM-SHA-256", "sasl_username": "u"}), []string{"sasl_password"}},
		"plain in clear":    {sink.with(values{"sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "geheim"}), []string{"without TLS", "sasl_without_tls"}},
		"no token":          {sink.with(values{"sasl_mechanism": "OAUTHBEARER", "tls": true}), []string{"one of sasl_token"}},
		"secret in clear":   {sink.with(values{"sasl_mechanism": "OAUTHBEARER", "tls": true, "sasl_oauth_url": "http://h/t", "sasl_client_id": "c", "sasl_client_secret": "geheim"}), []string{"https://"}},
		"user in token url": {sink.with(values{"sasl_mechanism": "OAUTHBEARER", "tls": true, "sasl_oauth_url": "https://u:geheim@h/t"}), []string{"sasl_oauth_url"}},
		"a blank topic":     {sink.with(values{"topic_template": "a b"}), []string{`"a b"`, "letters, digits"}},
		"dots":              {sink.with(values{"topic_template": ".."}), []string{"neither . nor .."}},
		"a long topic":      {sink.with(values{"topic_template": strings.Repeat("x", 250)}), []string{"250 bytes", "249"}},
		"leader and whole":  {sink.with(values{"acks": "leader", "transactional": true}), []string{"acks is leader"}},
		"id alone":          {sink.with(values{"transactional_id": "x"}), []string{"transactional is not true"}},
		"a short timeout":   {sink.with(values{"transaction_timeout": "10"}), []string{`"10"`, "60s"}},
		"never enough":      {sink.with(values{"replication_factor": 2, "min_insync_replicas": 3}), []string{"min_insync_replicas is 3", "replication_factor 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := makeSink(c.values)
			wantError(t, err, delivery.VerdictMisconfigured, c.parts...)
			if strings.Contains(err.Error(), "geheim") {
				t.Errorf("the sentence has the secret: %v", err)
			}
		})
	}
	source := values{"brokers": "127.0.0.1:1", "topic": "t"}
	for name, c := range map[string]struct {
		values values
		parts  []string
	}{
		"no topic": {source.with(values{"topic": " "}), []string{"topic is empty"}},
		"wildcard": {source.with(values{"topic": "a,b.*"}), []string{`"b.*"`}},
		"start":    {source.with(values{"start_offset": "yesterday"}), []string{`"yesterday"`, "RFC 3339"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := makeSource(c.values)
			wantError(t, err, delivery.VerdictMisconfigured, c.parts...)
		})
	}
}

func TestRefusesATopicThatNoBrokerTakesBeforeSendingAnything(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	ctx := background(t)
	sink := newSink(t, values{"brokers": f.brokers(), "topic_template": "t.{payload.x}"})
	open(ctx, t, sink)
	for _, name := range []string{"", ".", "..", "a/b", "a b", "größe", strings.Repeat("x", 250)} {
		batch := sinktest.Envelopes("t.fine", 1, 3)
		batch[1].Destination = name
		_, err := sink.Send(ctx, batch)
		wantError(t, err, delivery.VerdictReject, "topic", "cannot be written to")
	}
	if f.TopicInfo("t.fine") != nil && len(stored(t, f.brokers(), "t.fine")) > 0 {
		t.Error("the others of a refused batch were sent")
	}
}

func TestCreatesTopicsAsConfiguredOrSaysThatTheyAreMissing(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	ctx := background(t)
	config := values{"brokers": f.brokers(), "topic_template": "orders", "create_topic": false}
	sink := newSink(t, config)
	wantError(t, sink.Open(ctx), delivery.VerdictMisconfigured, `topic "orders" is missing`, "create_topic is false")
	source := newSource(t, values{"brokers": f.brokers(), "topic": "orders", "create_topic": false}, "db-1")
	wantError(t, source.Open(ctx), delivery.VerdictMisconfigured, `topic "orders" is missing`)

	open(ctx, t, newSink(t, config.with(values{"create_topic": true, "partitions": 7, "min_insync_replicas": 1})))
	info := f.TopicInfo("orders")
	if info == nil {
		t.Fatal("the topic was not created")
	}
	if n := len(f.PartitionInfos("orders")); n != 7 {
		t.Errorf("%d partitions, want 7", n)
	}
	if value := info.Configs["min.insync.replicas"]; value == nil || *value != "1" {
		t.Errorf("its configuration is %v", info.Configs)
	}
}
