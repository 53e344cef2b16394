package kafka_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/testkit/kafkatest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

// checkCertificates shows a real broker, which demands one, certificates of
// all kinds, from both ends.
func checkCertificates(t *testing.T, c *kafkatest.Cluster, certificates *kafkatest.Certificates) {
	const topic, events = "shipped", 3
	ctx, strangers := background(t), kafkatest.NewCertificates(t)
	c.CreateTopic(t, topic, 1)
	c.Allow(t, kafkatest.CertificateUser, topic, kadm.OpRead, kadm.OpWrite, kadm.OpDescribe)
	good := values{"brokers": c.TLSBrokers(), "topic_template": topic, "topic": topic, "group_id": topic, "start_offset": "earliest",
		"tls_ca_file": certificates.CA, "tls_cert_file": certificates.ClientCert, "tls_key_file": certificates.ClientKey}

	sink := newSink(t, good.with(values{"tls_server_name": kafkatest.ServerName}))
	open(ctx, t, sink)
	if err := send(ctx, sink, sinktest.Envelopes(topic, 1, events)...); err != nil {
		t.Fatalf("the right certificate: %v", err)
	}
	source := newSource(t, good, "db-1")
	open(ctx, t, source)
	for got := 0; got < events; {
		batch, err := source.Fetch(ctx, events)
		if err != nil {
			t.Fatalf("the right certificate: %v", err)
		}
		got += len(batch.Envelopes)
	}
	// The certificate is who the relay is.
	wantError(t, newSink(t, good.with(values{"topic_template": "orders"})).Open(ctx), delivery.VerdictMisconfigured, "topic orders", "permit")

	for name, wrong := range map[string]struct {
		change values
		parts  []string
	}{
		"no certificate":             {values{"tls_cert_file": "", "tls_key_file": ""}, []string{"refuses the TLS handshake", "client certificate", "tls_cert_file"}},
		"a stranger's certificate":   {values{"tls_cert_file": strangers.ClientCert, "tls_key_file": strangers.ClientKey}, []string{"refuses the TLS handshake", "client certificate that it trusts"}},
		"unknown issuer of broker's": {values{"tls_ca_file": strangers.CA}, []string{"authority that is not trusted", "tls_ca_file"}},
		"broker of another name":     {values{"tls_server_name": "other.test"}, []string{"for another name", "other.test", "tls_server_name"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := background(t) // it may have waited for its turn
			config := good.with(wrong.change)
			parts := append([]string{"the broker at " + c.TLSBrokers()}, wrong.parts...)
			wantError(t, newSink(t, config).Open(ctx), delivery.VerdictMisconfigured, parts...)
			wantError(t, newSource(t, config, "db-1").Open(ctx), delivery.VerdictMisconfigured, parts...)
		})
	}
}
