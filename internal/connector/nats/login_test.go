package nats_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

// loginCase is a broker that demands something, what satisfies it, and what does not.
type loginCase struct {
	server natstest.Options
	right  values
	wrong  []values
	says   []string // one part of the sentence for each of wrong
}

func loginCases(t *testing.T) map[string]loginCase {
	nkey, seed := natstest.NKey(t)
	_, strangersSeed := natstest.NKey(t)
	operator, credentials, strangers := natstest.Operator(t)
	certificates, others := natstest.NewCertificates(t), natstest.NewCertificates(t)
	trust := values{"tls_ca_file": certificates.CA}
	const refused = "authorization violation"
	return map[string]loginCase{
		"user and password": {
			server: natstest.Options{Login: natstest.Users(map[string]string{"app": ""})},
			right:  values{"username": "app", "password": natstest.Password("app")},
			wrong:  []values{{"username": "app", "password": "guess"}, {}},
			says:   []string{refused, refused},
		},
		"token": {
			server: natstest.Options{Login: natstest.Token("t0ken")},
			right:  values{"token": "t0ken"},
			wrong:  []values{{"token": "guess"}, {"username": "app", "password": "guess"}},
			says:   []string{refused, refused},
		},
		"nkey": {
			server: natstest.Options{Login: nkey},
			right:  values{"nkey_seed": seed},
			wrong:  []values{{"nkey_seed": strangersSeed}, {"token": "guess"}},
			says:   []string{refused, refused},
		},
		"credentials file": {
			server: natstest.Options{Login: operator},
			right:  values{"credentials_file": credentials},
			wrong:  []values{{"credentials_file": strangers}, {"credentials_file": filepath.Join(t.TempDir(), "none.creds")}, {}},
			says:   []string{refused, "cannot be read by the relay", refused},
		},
		"TLS": {
			server: natstest.Options{TLS: certificates},
			right:  trust,
			wrong:  []values{{}, {"tls_ca_file": others.CA}, trust.with(values{"tls_server_name": "elsewhere.test"})},
			says:   []string{"set tls_ca_file", "set tls_ca_file", "set tls_server_name"},
		},
		"TLS with another name": {
			server: natstest.Options{TLS: certificates},
			right:  trust.with(values{"tls_server_name": natstest.ServerName}),
		},
		"TLS with client certificates": {
			server: natstest.Options{TLS: certificates, MutualTLS: true},
			right:  trust.with(values{"tls_cert_file": certificates.ClientCert, "tls_key_file": certificates.ClientKey}),
			wrong: []values{
				trust,
				trust.with(values{"tls_cert_file": others.ClientCert, "tls_key_file": others.ClientKey}),
				trust.with(values{"tls_cert_file": certificates.ClientCert, "tls_key_file": others.ClientKey}),
			},
			says: []string{"set tls_cert_file and tls_key_file", "refuses the TLS handshake", "are not a pair"},
		},
	}
}

func TestLogsInEveryWay(t *testing.T) {
	t.Parallel()
	for name, c := range loginCases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := natstest.Start(t, c.server)
			base := values{"url": server.URL(), "subject_template": "events.{op}", "subject": "events.>"}
			ctx := background(t)
			sink, source := newSink(t, base.with(c.right)), newSource(t, base.with(c.right), "db-1")
			open(ctx, t, sink)
			open(ctx, t, source)
			if err := send(ctx, sink, sinktest.Envelopes("events.insert", 1, 2)...); err != nil {
				t.Fatalf("send: %v", err)
			}
			if _, err := source.Fetch(ctx, 2); err != nil {
				t.Fatalf("fetch: %v", err)
			}
			for i, wrong := range c.wrong {
				err := newSink(t, base.with(wrong)).Open(ctx)
				wantError(t, err, delivery.VerdictMisconfigured, c.says[i])
				for _, secret := range []string{"password", "token", "nkey_seed"} {
					if value := wrong.String(secret); value != "" && strings.Contains(err.Error(), value) {
						t.Errorf("the sentence shows the secret: %v", err)
					}
				}
			}
		})
	}
}

func TestSaysWhyTheBrokerCannotBeReached(t *testing.T) {
	t.Parallel()
	ctx := background(t)
	server := natstest.Start(t, natstest.Options{})
	url := server.URL()
	plain := values{"url": strings.Replace(url, "nats://", "tls://", 1), "subject_template": "a.{op}"}
	wantError(t, newSink(t, plain).Open(ctx), delivery.VerdictMisconfigured, "offers no TLS")
	server.Stop()
	gone := values{"url": "nats://user:hidden@" + strings.TrimPrefix(url, "nats://"), "subject_template": "a.{op}"}
	err := newSink(t, gone).Open(ctx)
	wantError(t, err, delivery.VerdictRetry, "is not reachable", "connection refused", "check url")
	if strings.Contains(err.Error(), "hidden") {
		t.Errorf("the sentence shows the password: %v", err)
	}
}

func TestTriesEachOfSeveralURLs(t *testing.T) {
	t.Parallel()
	dead, alive := natstest.Start(t, natstest.Options{}), natstest.Start(t, natstest.Options{})
	dead.Stop()
	for range 4 {
		sink := newSink(t, values{"url": dead.URL() + ", " + alive.URL(), "subject_template": "a.{op}"})
		open(background(t), t, sink)
	}
}

func TestRefusesAWrongConfigurationAtOnce(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		config values
		says   string
	}{
		"no url":               {values{"url": ""}, "url is empty"},
		"scheme":               {values{"url": "http://broker"}, "scheme http"},
		"two logins":           {values{"token": "t", "username": "u"}, "keep one of"},
		"password alone":       {values{"password": "p"}, "without username"},
		"certificate alone":    {values{"tls_cert_file": "c"}, "belong together"},
		"not a seed":           {values{"nkey_seed": "SUsecret"}, "not the seed"},
		"stream name":          {values{"stream": "a.b"}, "not a name JetStream allows"},
		"duplicate window":     {values{"duplicate_window": "2"}, "duplicate_window"},
		"durable name":         {values{"durable_name": "a b"}, "not a name JetStream allows"},
		"deliver from":         {values{"deliver_from": "yesterday"}, "deliver_from"},
		"empty subject":        {values{"subject": ""}, "it is empty"},
		"wildcard in between":  {values{"subject": "a.>.b"}, "at the end only"},
		"empty token":          {values{"subject": "a..b"}, "empty token"},
		"template with blanks": {values{"subject_template": "a b.{op}"}, "blank"},
	}
	base := values{"url": "nats://broker:4222", "subject": "a.>", "subject_template": "a.{op}"}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, sinkErr := natsSink(base.with(c.config))
			_, sourceErr := natsSource(base.with(c.config))
			err := sinkErr
			if err == nil {
				err = sourceErr
			}
			wantError(t, err, delivery.VerdictMisconfigured, c.says)
			if strings.Contains(err.Error(), "SUsecret") {
				t.Errorf("the sentence shows the seed: %v", err)
			}
		})
	}
}
