package kafka_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/testkit/kafkatest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

func serverTLS(t *testing.T, c *kafkatest.Certificates, clients bool) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(c.ServerCert, c.ServerKey)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if clients {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			t.Fatal(err)
		}
		config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		config.ClientCAs.AppendCertsFromPEM(text)
	}
	return config
}

func TestVerifiesTheBrokersCertificateAndShowsItsOwn(t *testing.T) {
	t.Parallel()
	certificates, strangers := kafkatest.NewCertificates(t), kafkatest.NewCertificates(t)
	f := startFake(t, kfake.TLS(serverTLS(t, certificates, true)))
	ctx := background(t)
	good := values{"brokers": f.brokers(), "topic_template": "t", "tls_ca_file": certificates.CA,
		"tls_cert_file": certificates.ClientCert, "tls_key_file": certificates.ClientKey}
	sink := newSink(t, good)
	open(ctx, t, sink)
	if err := send(ctx, sink, sinktest.Envelopes("t", 1, 3)...); err != nil {
		t.Fatal(err)
	}
	open(ctx, t, newSink(t, good.with(values{"tls_server_name": kafkatest.ServerName})))
	for name, c := range map[string]struct {
		change values
		parts  []string
	}{
		"unknown issuer":        {values{"tls_ca_file": strangers.CA}, []string{"authority that is not trusted", "tls_ca_file"}},
		"wrong name":            {values{"tls_server_name": "other.test"}, []string{"for another name", "tls_server_name"}},
		"no certificate":        {values{"tls_cert_file": "", "tls_key_file": ""}, []string{"client certificate", "tls_cert_file"}},
		"unknown certificate":   {values{"tls_cert_file": strangers.ClientCert, "tls_key_file": strangers.ClientKey}, []string{"client certificate"}},
		"a file that is not":    {values{"tls_ca_file": "/nowhere/ca.pem"}, []string{"tls_ca_file", "/nowhere/ca.pem", "cannot be read"}},
		"a key that is another": {values{"tls_key_file": strangers.ClientKey}, []string{"not a pair"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantError(t, newSink(t, good.with(c.change)).Open(ctx), delivery.VerdictMisconfigured, c.parts...)
		})
	}
}

func TestSaysWhenOneSideSpeaksTLSAndTheOtherDoesNot(t *testing.T) {
	t.Parallel()
	ctx := background(t)
	inClear := startFake(t)
	err := newSink(t, values{"brokers": inClear.brokers(), "topic_template": "t", "tls": true}).Open(ctx)
	wantError(t, err, delivery.VerdictRetry, inClear.brokers(), "tls")
	secure := startFake(t, kfake.TLS(serverTLS(t, kafkatest.NewCertificates(t), false)))
	err = newSink(t, values{"brokers": secure.brokers(), "topic_template": "t"}).Open(ctx)
	wantError(t, err, delivery.VerdictRetry, secure.brokers(), "tls")
}

func TestSaysWhichPermissionIsMissing(t *testing.T) {
	t.Parallel()
	allow := func(resource kmsg.ACLResourceType, name string, operations ...kmsg.ACLOperation) []kfake.ACL {
		var all []kfake.ACL
		for _, o := range operations {
			all = append(all, kfake.ACL{Resource: resource, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: o, Allow: true})
		}
		return all
	}
	reads := allow(kmsg.ACLResourceTypeTopic, "orders", kmsg.ACLOperationRead, kmsg.ACLOperationDescribe)
	writes := allow(kmsg.ACLResourceTypeTopic, "orders", kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe)
	f := startFake(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "x"), kfake.SeedTopics(1, "orders"),
		kfake.User("PLAIN", "nobody", "x"), kfake.User("PLAIN", "reader", "x", reads...), kfake.User("PLAIN", "writer", "x", writes...))
	ctx := background(t)
	as := func(user string) values {
		return values{"brokers": f.brokers(), "sasl_mechanism": "PLAIN", "sasl_username": user, "sasl_password": "x", "sasl_without_tls": true,
			"topic": "orders", "topic_template": "orders", "group_id": "payments"}
	}
	wantError(t, newSink(t, as("nobody")).Open(ctx), delivery.VerdictMisconfigured, "orders", "permit")
	wantError(t, newSink(t, as("writer").with(values{"topic_template": "others"})).Open(ctx), delivery.VerdictMisconfigured, "others", "permit")

	reader := newSink(t, as("reader").with(values{"acks": "leader"}))
	open(ctx, t, reader)
	wantError(t, send(ctx, reader, sinktest.Envelopes("orders", 1, 1)...), delivery.VerdictMisconfigured, "orders", "WRITE")

	writer := newSink(t, as("writer"))
	open(ctx, t, writer)
	if err := send(ctx, writer, sinktest.Envelopes("orders", 1, 1)...); err != nil {
		t.Fatalf("WRITE and DESCRIBE on the topic are not enough: %v", err)
	}
	wantError(t, newSink(t, as("writer").with(values{"transactional": true})).Open(ctx), delivery.VerdictMisconfigured, "transactional id")

	source := newSource(t, as("reader"), "db-1")
	open(ctx, t, source)
	_, err := source.Fetch(ctx, 10)
	wantError(t, err, delivery.VerdictMisconfigured, "group payments", "READ on the group")
}

// What only a real broker answers: logins of all kinds, over TLS and without,
// and certificates in their place.
func TestLogsInToARealBroker(t *testing.T) {
	t.Parallel()
	certificates, tokens := kafkatest.NewCertificates(t), kafkatest.NewTokens(t)
	c := kafkatest.Start(t, kafkatest.Options{Certificates: certificates, MutualTLS: true, Users: map[string]string{"relay": "geheim", "nobody": "geheim"},
		Tokens: tokens, Authorize: true})
	ctx := background(t)
	c.CreateTopic(t, "orders", 1)
	c.Allow(t, "relay", "orders", kadm.OpRead, kadm.OpWrite, kadm.OpDescribe)
	inClear := values{"brokers": c.LoginBrokers(), "topic_template": "orders", "topic": "orders", "group_id": "orders", "sasl_without_tls": true}
	secure := inClear.with(values{"brokers": c.LoginTLSBrokers(), "tls_ca_file": certificates.CA, "sasl_without_tls": false})

	t.Run("passwords", func(t *testing.T) {
		t.Parallel()
		for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
			for _, config := range []values{inClear, secure} {
				config = config.with(values{"sasl_mechanism": mechanism, "sasl_username": "relay", "sasl_password": "geheim"})
				passes(ctx, t, config)
				err := newSink(t, config.with(values{"sasl_password": "verraten"})).Open(ctx)
				wantError(t, err, delivery.VerdictMisconfigured, config.String("brokers"), "refuses the login", "sasl_password")
				if strings.Contains(err.Error(), "verraten") {
					t.Errorf("the sentence has the secret: %v", err)
				}
			}
		}
		err := newSink(t, inClear).Open(ctx)
		wantError(t, err, delivery.VerdictRetry, c.LoginBrokers(), "sasl_mechanism")
		err = newSink(t, secure.with(values{"tls_ca_file": kafkatest.NewCertificates(t).CA, "sasl_mechanism": "PLAIN", "sasl_username": "relay", "sasl_password": "geheim"})).Open(ctx)
		wantError(t, err, delivery.VerdictMisconfigured, "authority that is not trusted")
	})
	t.Run("tokens", func(t *testing.T) {
		t.Parallel()
		config := secure.with(values{"sasl_mechanism": "OAUTHBEARER"})
		passes(ctx, t, config.with(values{"sasl_token": tokens.Token(t, "relay", time.Hour)}))
		endpoint := values{"sasl_oauth_url": tokens.Endpoint(t, "relay", "geheim"), "sasl_client_id": "relay", "sasl_client_secret": "geheim", "sasl_without_tls": true}
		passes(ctx, t, config.with(endpoint))
		err := newSink(t, config.with(endpoint).with(values{"sasl_client_secret": "verraten"})).Open(ctx)
		wantError(t, err, delivery.VerdictMisconfigured, "sasl_oauth_url refuses the client", "sasl_client_secret")

		// A renewed token needs no restart: the same source, opened again.
		file := filepath.Join(t.TempDir(), "token")
		source := newSource(t, config.with(values{"sasl_token_file": file}), "db-1")
		wantError(t, source.Open(ctx), delivery.VerdictMisconfigured, "sasl_token_file", "cannot be read")
		write := func(token string) {
			if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(tokens.Token(t, "relay", -time.Hour))
		wantError(t, source.Open(ctx), delivery.VerdictMisconfigured, "refuses the login", "token")
		write(tokens.Token(t, "relay", time.Hour))
		open(ctx, t, source)
	})
	t.Run("certificates", func(t *testing.T) {
		t.Parallel()
		checkCertificates(t, c, certificates)
	})
	t.Run("permissions", func(t *testing.T) {
		t.Parallel()
		config := inClear.with(values{"sasl_mechanism": "PLAIN", "sasl_username": "nobody", "sasl_password": "geheim"})
		wantError(t, newSink(t, config).Open(ctx), delivery.VerdictMisconfigured, "topic orders", "permit")
		wantError(t, newSource(t, config, "db-1").Open(ctx), delivery.VerdictMisconfigured, "topic orders", "permit")
		relay := config.with(values{"sasl_username": "relay"})
		wantError(t, newSink(t, relay.with(values{"topic_template": "others"})).Open(ctx), delivery.VerdictMisconfigured, "others", "permit")
		wantError(t, newSink(t, relay.with(values{"transactional": true})).Open(ctx), delivery.VerdictMisconfigured, "transactional id")
		source := newSource(t, relay.with(values{"group_id": "others"}), "db-1")
		open(ctx, t, source)
		_, err := source.Fetch(ctx, 10)
		wantError(t, err, delivery.VerdictMisconfigured, "group others", "READ on the group")
	})
}

// passes sends one event and reads one.
func passes(ctx context.Context, t *testing.T, config values) {
	t.Helper()
	sink := newSink(t, config)
	open(ctx, t, sink)
	if err := send(ctx, sink, sinktest.Envelopes("orders", 1, 1)...); err != nil {
		t.Fatalf("send: %v", err)
	}
	source := newSource(t, config, "db-"+config.String("sasl_mechanism"))
	open(ctx, t, source)
}
