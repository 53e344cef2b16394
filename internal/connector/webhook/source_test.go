package webhook_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/pg-tide/pg-tide/internal/connector/webhook"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/wire"
)

var _ relay.Source = (*webhook.Source)(nil)

type sourceValues map[string]any

func (v sourceValues) String(name string) string {
	if s, ok := v[name].(string); ok {
		return s
	}
	return map[string]string{"listen": "127.0.0.1:0", "signature_header": "X-Signature", "signature_encoding": "hex"}[name]
}

func (v sourceValues) Int(name string) int64 {
	if i, ok := v[name].(int); ok {
		return int64(i)
	}
	return map[string]int64{"tolerance_seconds": 300, "max_body_bytes": 1 << 20, "max_pending": 256}[name]
}

func (v sourceValues) Float(name string) float64 {
	if f, ok := v[name].(float64); ok {
		return f
	}
	return map[string]float64{"response_timeout_seconds": 60}[name]
}

func (v sourceValues) Bool(name string) bool { b, _ := v[name].(bool); return b }

// receiver is an open source that somebody can post to.
type receiver struct {
	source *webhook.Source
	hub    *webhook.Hub
	listen string
	path   string
}

func receive(t *testing.T, v sourceValues) *receiver {
	t.Helper()
	return receiveOn(t, webhook.NewHub(), v)
}

func receiveOn(t *testing.T, hub *webhook.Hub, v sourceValues) *receiver {
	t.Helper()
	r := &receiver{hub: hub, listen: v.String("listen"), path: "/orders"}
	if path := v.String("path"); path != "" {
		r.path = path
	}
	var err error
	if r.source, err = webhook.NewSource(v, "orders", hub); err != nil {
		t.Fatal(err)
	}
	if err := r.source.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.source.Close(context.Background()) })
	return r
}

func (r *receiver) url() string {
	return "http://" + r.hub.Address(r.listen).String() + r.path
}

// answer is what a sender got.
type answer struct {
	status int
	header http.Header
	text   string
}

// post sends one request and returns its answer.
func post(url string, header map[string]string, body string) (answer, error) {
	request, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(text)}, err
}

// refused posts what is answered without anybody fetching it.
func (r *receiver) refused(t *testing.T, status int, words string, header map[string]string, body string) answer {
	t.Helper()
	a, err := post(r.url(), header, body)
	if err != nil {
		t.Fatal(err)
	}
	if a.status != status || !strings.Contains(a.text, words) {
		t.Errorf("%.60s with %v is answered %d %q, want %d and %q", body, header, a.status, a.text, status, words)
	}
	return a
}

// accepted posts, fetches, and returns the envelope; the sender must have been
// waiting until the acknowledgement.
func (r *receiver) accepted(t *testing.T, header map[string]string, body string) message.Envelope {
	t.Helper()
	answered := make(chan answer, 1)
	go func() {
		a, err := post(r.url(), header, body)
		if err != nil {
			a.text = err.Error()
		}
		answered <- a
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	fetched := make(chan message.Delivery, 1)
	failed := make(chan error, 1)
	go func() {
		d, err := r.source.Fetch(ctx, 10)
		if err != nil {
			failed <- err
			return
		}
		fetched <- d
	}()
	select {
	case a := <-answered:
		t.Fatalf("answered %d %q before the message was stored", a.status, a.text)
	case err := <-failed:
		t.Fatal(err)
	case d := <-fetched:
		select {
		case a := <-answered:
			t.Fatalf("answered %d %q before the acknowledgement", a.status, a.text)
		default:
		}
		if err := d.Acknowledge(ctx); err != nil {
			t.Fatal(err)
		}
		if a := <-answered; a.status != http.StatusNoContent {
			t.Fatalf("answered %d %q", a.status, a.text)
		}
		return d.Envelopes[0]
	}
	return message.Envelope{}
}

func decode(t *testing.T, e message.Envelope) message.Message {
	t.Helper()
	m, err := wire.Binary{Spelling: wire.HTTP()}.Decode(&e)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func sign(secret string, parts ...string) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	for _, part := range parts {
		h.Write([]byte(part))
	}
	return h.Sum(nil)
}

func TestStandardWebhooksAreVerified(t *testing.T) {
	t.Parallel()
	const secret, old = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	r := receive(t, sourceValues{"signature": "standard_webhooks", "secret": secret, "previous_secret": old})
	const body = `{"test": 2432232314}`
	headers := func(secret, id string, at time.Time, body string) map[string]string {
		wh, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := wh.Sign(id, at, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return map[string]string{"webhook-id": id, "webhook-timestamp": strconv.FormatInt(at.Unix(), 10), "webhook-signature": "v1a,xx " + signature}
	}
	now := time.Now()
	for _, key := range []string{secret, old} {
		m := decode(t, r.accepted(t, headers(key, "msg_1%41", now, body), body))
		if m.EventID != "/orders#msg_1%41" || string(m.Payload) != body || m.Source != "/orders" {
			t.Errorf("arrived as %+v", m)
		}
	}
	r.refused(t, 401, "does not match", headers(secret, "msg_1", now, body), body+" ")
	r.refused(t, 401, "does not match", headers("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "msg_1", now, body), body)
	r.refused(t, 401, "away from the clock", headers(secret, "msg_1", now.Add(-6*time.Minute), body), body)
	r.refused(t, 401, "away from the clock", headers(secret, "msg_1", now.Add(6*time.Minute), body), body)
	r.refused(t, 401, "webhook-id is missing", nil, body)
	other := headers(secret, "msg_1", now, body)
	other["webhook-id"] = "msg_2" // a recorded request under another id
	r.refused(t, 401, "does not match", other, body)
	// A CloudEvent's own id is not signed, and the other is.
	event := headers(secret, "msg_3", now, body)
	event["ce-specversion"], event["ce-id"], event["ce-source"], event["ce-type"] = "1.0", "forged", "/s", "t"
	if m := decode(t, r.accepted(t, event, body)); m.EventID != "/s#msg_3" {
		t.Errorf("the event id is %s", m.EventID)
	}
}

// The specification's own example.
func TestStandardWebhooksExample(t *testing.T) {
	t.Parallel()
	check, err := webhook.Verifier(sourceValues{"signature": "standard_webhooks", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{}
	header.Set("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
	header.Set("webhook-timestamp", "1614265330")
	header.Set("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	if err := check(header, []byte(`{"test": 2432232314}`), time.Unix(1614265330+60, 0)); err != nil {
		t.Error(err)
	}
}

// GitHub's documentation has this example.
func TestGitHubExample(t *testing.T) {
	t.Parallel()
	check, err := webhook.Verifier(sourceValues{"signature": "github", "secret": "It's a Secret to Everybody"})
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{}
	header.Set("X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")
	if err := check(header, []byte("Hello, World!"), time.Now()); err != nil {
		t.Error(err)
	}
}

func TestGitHubRequestsAreVerifiedAndKnownByTheirDelivery(t *testing.T) {
	t.Parallel()
	r := receive(t, sourceValues{"signature": "github", "secret": "s3cret"})
	const body = `{"zen": "Keep it logically awesome."}`
	header := map[string]string{
		"X-Hub-Signature-256": "sha256=" + hex.EncodeToString(sign("s3cret", body)), "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958", "X-GitHub-Event": "ping",
		"Content-Type": "application/json", "Authorization": "Bearer hunter2", "Cookie": "hunter2", "Traceparent": "00-1-2-03",
	}
	m := decode(t, r.accepted(t, header, body))
	if m.EventID != "/orders#72d3162e-cc78-11e3-81ab-4c9367dc0958" || m.EventType != "ping" || m.Stream != "orders" {
		t.Errorf("arrived as %+v", m)
	}
	if text := string(m.Headers); text != `{"traceparent":"00-1-2-03","x-github-delivery":"72d3162e-cc78-11e3-81ab-4c9367dc0958","x-github-event":"ping"}` {
		t.Errorf("its headers are %s", text)
	}
	r.refused(t, 401, "X-Hub-Signature-256 is missing", nil, body)
	r.refused(t, 401, "does not match", map[string]string{"X-Hub-Signature-256": "sha256=" + hex.EncodeToString(sign("other", body))}, body)
	r.refused(t, 401, "cannot be read", map[string]string{"X-Hub-Signature-256": hex.EncodeToString(sign("s3cret", body))}, body)
	header["Content-Type"] = "application/x-www-form-urlencoded"
	r.refused(t, 415, "send JSON", header, body)
}

func TestStripeRequestsAreVerifiedAndKnownByTheEvent(t *testing.T) {
	t.Parallel()
	r := receive(t, sourceValues{"signature": "stripe", "secret": "whsec_x", "tolerance_seconds": 60})
	const body = `{"id": "evt_1", "object": "event", "type": "invoice.paid"}`
	signed := func(at time.Time, secret string) map[string]string {
		stamp := strconv.FormatInt(at.Unix(), 10)
		return map[string]string{"Stripe-Signature": "t=" + stamp + ",v1=00ff,v1=" + hex.EncodeToString(sign(secret, stamp, ".", body)) + ",v0=6ffb"}
	}
	m := decode(t, r.accepted(t, signed(time.Now(), "whsec_x"), body))
	if m.EventID != "/orders#evt_1" || m.EventType != "invoice.paid" {
		t.Errorf("arrived as %+v", m)
	}
	r.refused(t, 401, "does not match", signed(time.Now(), "whsec_y"), body)
	r.refused(t, 401, "away from the clock", signed(time.Now().Add(-2*time.Minute), "whsec_x"), body)
	r.refused(t, 401, "cannot be read", map[string]string{"Stripe-Signature": "t=1"}, body)
	r.refused(t, 401, "Stripe-Signature is missing", nil, body)
}

func TestPlainSignaturesAreVerifiedAsConfigured(t *testing.T) {
	t.Parallel()
	r := receive(t, sourceValues{"signature": "hmac_sha256", "secret": "k", "signature_header": "X-Shop-Hmac", "signature_encoding": "base64", "id_header": "X-Shop-Id", "type_header": "X-Shop-Topic"})
	const body = `{"event_type": "not this"}`
	signature := base64.StdEncoding.EncodeToString(sign("k", body))
	m := decode(t, r.accepted(t, map[string]string{"X-Shop-Hmac": signature, "X-Shop-Id": "7", "X-Shop-Topic": "orders/create"}, body))
	if m.EventID != "/orders#7" || m.EventType != "orders/create" || strings.Contains(string(m.Headers), "hmac") {
		t.Errorf("arrived as %+v", m)
	}
	r.refused(t, 400, "X-Shop-Id is missing", map[string]string{"X-Shop-Hmac": signature}, body)
	r.refused(t, 401, "does not match", map[string]string{"X-Shop-Hmac": signature, "X-Shop-Id": "7"}, body+"\n")
}

func TestCloudEventsAreUnderstoodInBothModes(t *testing.T) {
	t.Parallel()
	r := receive(t, sourceValues{"signature": "none"})
	const ours, id = "/0191f6a0-0000-7000-8000-00000000000a/orders", "0191f6a0-0000-7000-8000-00000000000b"
	m := decode(t, r.accepted(t, map[string]string{"ce-specversion": "1.0", "ce-id": id, "ce-source": ours, "ce-type": "order.created", "ce-subject": "7%20b", "event_kind": "x"}, `{"a":1}`))
	if m.EventID != id || m.Source != ours || m.Stream != "orders" || m.Key != "7 b" || m.EventType != "order.created" || string(m.Headers) != `{"event_kind":"x"}` {
		t.Errorf("in binary mode it arrived as %+v", m)
	}
	m = decode(t, r.accepted(t, map[string]string{"Content-Type": "application/cloudevents+json; charset=utf-8"},
		`{"specversion":"1.0","id":"`+id+`","source":"`+ours+`","type":"order.created","subject":"7 b","data":{"a":1}}`))
	if m.EventID != id || m.Source != ours || m.Key != "7 b" || string(m.Payload) != `{"a":1}` {
		t.Errorf("in structured mode it arrived as %+v", m)
	}
	first, second := decode(t, r.accepted(t, nil, `{"a":1}`)), decode(t, r.accepted(t, nil, `{"a":1}`))
	if first.EventID == second.EventID || first.EventID == "" {
		t.Errorf("two requests without an id are known as %s and %s", first.EventID, second.EventID)
	}
	if m := decode(t, r.accepted(t, map[string]string{"webhook-id": "m1"}, `{"a":1}`)); m.EventID != "/orders#m1" {
		t.Errorf("the sender's id became %s", m.EventID)
	}
}

// The engine takes a batch apart; one event of it that cannot be read harms no other.
func TestABatchOfCloudEventsIsTakenAndEachEventIsKnownByItself(t *testing.T) {
	t.Parallel()
	r := receive(t, sourceValues{"signature": "none"})
	codec := wire.Binary{Spelling: wire.HTTP()}
	header := map[string]string{"Content-Type": "application/cloudevents-batch+json; charset=utf-8", "webhook-id": "m1"}
	e := r.accepted(t, header, ` [{"specversion":"1.0","id":"a","source":"/s","type":"t","data":{"n":1}},
		{"specversion":"1.0","id":"b","source":"/s","type":"t"},
		{"specversion":"1.0","id":"c","source":"/s","type":"t","subject":"k","data":{"n":3}}]`)
	parts, several := codec.Split(&e)
	if !several || len(parts) != 3 {
		t.Fatalf("it is %d events, several: %t", len(parts), several)
	}
	for i, want := range []string{`/s#a {"n":1}`, "", `/s#c {"n":3}`} {
		m, err := codec.Decode(&parts[i])
		switch {
		case want == "" && err == nil:
			t.Errorf("event %d without data was read as %+v", i, m)
		case want != "" && (err != nil || m.EventID+" "+string(m.Payload) != want):
			t.Errorf("event %d was read as %s %s, %v", i, m.EventID, m.Payload, err)
		}
	}
	if parts[0].Coordinates == parts[2].Coordinates {
		t.Error("two events of a batch have the same coordinates")
	}
	empty := r.accepted(t, header, `[]`)
	if parts, several := codec.Split(&empty); !several || len(parts) != 0 {
		t.Errorf("an empty batch is %d events", len(parts))
	}
}

func TestWhatNoInboxWouldTakeIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	r := receive(t, sourceValues{"signature": "none", "max_body_bytes": 100})
	r.refused(t, 413, "more than 100 bytes", nil, `{"a":"`+strings.Repeat("x", 200)+`"}`)
	r.refused(t, 400, "not JSON, at byte", nil, `{"a":}`)
	r.refused(t, 400, "empty", nil, ` `)
	r.refused(t, 415, "text/plain", map[string]string{"Content-Type": "text/plain"}, `{}`)
	r.refused(t, 400, "list", map[string]string{"Content-Type": "application/cloudevents-batch+json"}, `{"specversion":"1.0"}`)
	r.refused(t, 415, "encoded", map[string]string{"Content-Encoding": "gzip"}, `{}`)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for method, status := range map[string]int{http.MethodGet: 405, http.MethodDelete: 405, http.MethodOptions: 200} {
		request, err := http.NewRequest(method, r.url(), nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("WebHook-Request-Origin", "eventemitter.example.com")
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != status || status == 200 && response.Header.Get("WebHook-Allowed-Origin") != "eventemitter.example.com" {
			t.Errorf("%s is answered %d %v", method, response.StatusCode, response.Header)
		}
	}
}

func TestThoseThatAreTooManyAreToldToComeLater(t *testing.T) {
	t.Parallel()
	slow := receive(t, sourceValues{"signature": "none", "max_requests_per_second": 0.001})
	slow.accepted(t, nil, `{}`)
	if a := slow.refused(t, 429, "too many requests a second", nil, `{}`); a.header.Get("Retry-After") == "" {
		t.Error("it is not said when to come again")
	}
	full := receive(t, sourceValues{"signature": "none", "max_pending": 1})
	var first sync.WaitGroup
	first.Go(func() { _, _ = post(full.url(), nil, `{}`) })
	d, err := full.source.Fetch(t.Context(), 1) // it waits for its acknowledgement now
	if err != nil {
		t.Fatal(err)
	}
	full.refused(t, 503, "too many requests wait", nil, `{}`)
	_ = d.Acknowledge(t.Context())
	first.Wait()
}

// A sender is never told that its event is stored when nobody knows that.
func TestASenderWhoseMessageIsNotStoredIsToldToComeAgain(t *testing.T) {
	t.Parallel()
	impatient := receive(t, sourceValues{"signature": "none", "response_timeout_seconds": 0.1})
	impatient.refused(t, 503, "did not take it within 100ms", nil, `{}`)

	r := receive(t, sourceValues{"signature": "none"})
	url := r.url()
	answered := make(chan answer)
	go func() {
		a, _ := post(url, nil, `{}`)
		answered <- a
	}()
	d, err := r.source.Fetch(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.source.Close(t.Context()); err != nil { // the inbox's database is gone
		t.Fatal(err)
	}
	if a := <-answered; a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("answered %d %q, want 503", a.status, a.text)
	}
	if err := d.Acknowledge(t.Context()); err != nil { // late: nobody waits any more
		t.Fatal(err)
	}
	if _, err := post(url, nil, `{}`); err == nil {
		t.Error("a closed source still listens")
	}
}

func TestPipelinesShareAnAddressByTheirPaths(t *testing.T) {
	t.Parallel()
	hub := webhook.NewHub()
	first := receiveOn(t, hub, sourceValues{"signature": "none", "path": "/a"})
	second := receiveOn(t, hub, sourceValues{"signature": "none", "path": "/b/c"})
	if a, b := first.accepted(t, nil, `1`), second.accepted(t, nil, `2`); string(a.Body) != "1" || string(b.Body) != "2" || b.Destination != "b/c" {
		t.Errorf("arrived %q and %q", a.Body, b.Body)
	}
	same, err := webhook.NewSource(sourceValues{"signature": "none", "path": "/a"}, "third", hub)
	if err != nil {
		t.Fatal(err)
	}
	err = same.Open(t.Context())
	if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictMisconfigured || !strings.Contains(err.Error(), `pipeline "orders"'s already`) {
		t.Errorf("a path that is taken: %v", err)
	}
	if err := same.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := first.source.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.refused(t, 503, "cannot be reached", nil, `1`)
	second.accepted(t, nil, `3`)
	nobody := *second
	nobody.path = "/elsewhere"
	nobody.refused(t, 404, "nobody takes events", nil, `1`)
	if err := first.source.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.accepted(t, nil, `4`)
	other := webhook.NewHub()
	stranger, err := webhook.NewSource(sourceValues{"signature": "none", "listen": hub.Address(first.listen).String()}, "stranger", other)
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "is taken by another process") {
		t.Errorf("an address that is taken: %v", err)
	}
}

func TestWhatIsWrongWithTheSourcesConfigurationIsSaidInWords(t *testing.T) {
	t.Parallel()
	for words, v := range map[string]sourceValues{
		"must be host:port":        {"signature": "none", "listen": "8434"},
		"must be a plain path":     {"signature": "none", "path": "hooks"},
		"which other machines":     {"signature": "none", "listen": "0.0.0.0:8434"},
		`key "secret" is missing`:  {"signature": "github"},
		"nothing would be checked": {"signature": "none", "secret": "hunter2"},
		"base64 behind it":         {"signature": "standard_webhooks", "secret": "hunter2!"},
		"together or not at all":   {"signature": "none", "tls_cert_file": "/c"},
	} {
		_, err := webhook.NewSource(v, "p", webhook.NewHub())
		if err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v: %v, want %q", v, err, words)
		}
	}
	if _, err := webhook.NewSource(sourceValues{"signature": "none", "listen": "0.0.0.0:8434", "allow_unsigned": true}, "p", webhook.NewHub()); err != nil {
		t.Error(err)
	}
}

func TestHTTPSIsServedWithACertificate(t *testing.T) {
	t.Parallel()
	certificates := natstest.NewCertificates(t)
	hub := webhook.NewHub()
	v := sourceValues{"signature": "none", "tls_cert_file": certificates.ServerCert, "tls_key_file": certificates.ServerKey}
	r := receiveOn(t, hub, v)
	text, err := os.ReadFile(certificates.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	status := make(chan int, 1)
	go func() {
		response, err := client.Post("https://"+hub.Address(r.listen).String()+r.path, "application/json", strings.NewReader(`{}`))
		if err != nil {
			status <- 0
			return
		}
		_ = response.Body.Close()
		status <- response.StatusCode
	}()
	d, err := r.source.Fetch(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Acknowledge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-status; got != http.StatusNoContent {
		t.Errorf("answered %d", got)
	}
	r.refused(t, http.StatusBadRequest, "HTTP request to an HTTPS server", nil, `{}`)
	plain, err := webhook.NewSource(sourceValues{"signature": "none", "path": "/plain"}, "plain", hub)
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "with another certificate") {
		t.Errorf("plain HTTP at the same address: %v", err)
	}
	v["tls_cert_file"] = "/nowhere.pem"
	missing, err := webhook.NewSource(v, "missing", webhook.NewHub())
	if err != nil {
		t.Fatal(err)
	}
	err = missing.Open(t.Context())
	if verdict, _ := delivery.VerdictOf(err); verdict != delivery.VerdictMisconfigured || !strings.Contains(err.Error(), "/nowhere.pem") {
		t.Errorf("a certificate that is not there: %v", err)
	}
}

func FuzzNoSignatureIsAcceptedWithoutTheSecret(f *testing.F) {
	f.Add("t=1,v1=00", `{}`)
	f.Add("sha256=", "")
	f.Add("v1,AAAA", "1")
	checks := map[string]func(http.Header, []byte, time.Time) error{}
	for _, scheme := range []string{"github", "stripe", "standard_webhooks", "hmac_sha256"} {
		check, err := webhook.Verifier(sourceValues{"signature": scheme, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
		if err != nil {
			f.Fatal(err)
		}
		checks[scheme] = check
	}
	f.Fuzz(func(t *testing.T, signature, body string) {
		header := http.Header{}
		for _, name := range []string{"X-Hub-Signature-256", "Stripe-Signature", "Webhook-Signature", "X-Signature"} {
			header.Set(name, signature)
		}
		header.Set("Webhook-Id", "1")
		header.Set("Webhook-Timestamp", "1")
		for scheme, check := range checks {
			if check(header, []byte(body), time.Unix(1, 0)) == nil {
				t.Errorf("%s accepts %q", scheme, signature)
			}
		}
	})
}
