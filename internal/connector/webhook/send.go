package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 60 * time.Second
	maxHeaderBytes   = 64 << 10
	// drainedBytes is what is read of an answer so that its connection can be
	// used again; of a longer one the connection is closed.
	drainedBytes = 64 << 10
	agent        = "pg_tide"
)

// Sender posts envelopes to one service. It is safe for concurrent use.
type Sender struct {
	settings sendSettings
	signer   signer
	// ownPaths says that events have paths of their own: one that is not there
	// is then the event's fault.
	ownPaths bool
	// batches says that requests are batches, whose content type a service may not take.
	batches bool

	mu     sync.Mutex
	client *http.Client
}

// NewSender checks the configuration and connects to nothing.
func NewSender(values SendValues) (*Sender, error) {
	settings, err := readSendSettings(values)
	if err != nil {
		return nil, err
	}
	secrets := map[string]string{}
	keys := []string{"signing_secret", "previous_signing_secret"}
	for _, key := range keys {
		secrets[key] = strings.TrimSpace(values.String(key))
	}
	if secrets[keys[0]] == "" && secrets[keys[1]] != "" {
		return nil, misconfigured("previous_signing_secret is given without signing_secret; give both while they change, else signing_secret alone")
	}
	signer, err := newSigner(secrets, keys...)
	if err != nil {
		return nil, err
	}
	return &Sender{settings: settings, signer: signer}, nil
}

// Concurrency is how many requests may be out at once.
func (s *Sender) Concurrency() int { return s.settings.concurrency }

// Open reads the certificates again and forgets connections. There is nothing
// to connect to before there is an event.
func (s *Sender) Open() error {
	s.Close()
	secure, err := s.settings.tls.config()
	if err != nil {
		return err
	}
	dialer := &net.Dialer{Timeout: dialTimeout, ControlContext: s.settings.rule.control}
	client := &http.Client{
		Transport: &http.Transport{
			// No proxy: the address that is checked at the dial would be the proxy's.
			Proxy:                  nil,
			DialContext:            dialer.DialContext,
			TLSClientConfig:        secure,
			TLSHandshakeTimeout:    handshakeTimeout,
			IdleConnTimeout:        idleTimeout,
			MaxIdleConnsPerHost:    s.settings.concurrency,
			MaxResponseHeaderBytes: maxHeaderBytes,
			DisableCompression:     true,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client = client
	return nil
}

// Close drops idle connections. It may be called twice.
func (s *Sender) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		s.client.CloseIdleConnections()
		s.client = nil
	}
}

var errNotOpen = errors.New("posted an event before the webhook was opened")

// Post posts one event and returns nil once the service answered 2xx. Its
// errors have verdicts: reject for what is the event's own fault, misconfigured
// for what a person has to mend, else retry, doubtful where the event itself
// may be the reason.
func (s *Sender) Post(ctx context.Context, e *message.Envelope) error {
	s.mu.Lock()
	client := s.client
	s.mu.Unlock()
	if client == nil {
		return errNotOpen
	}
	bounded, cancel := context.WithTimeout(ctx, s.settings.timeout)
	defer cancel()
	request, err := s.request(bounded, e)
	if err != nil {
		return err
	}
	// Who was never sent the event is not broken by it.
	var sent atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}
	response, err := client.Do(request.WithContext(httptrace.WithClientTrace(bounded, trace)))
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return s.explain(err, sent.Load())
	}
	defer func() { _ = response.Body.Close() }() // nothing of it is needed any more
	text, err := io.ReadAll(io.LimitReader(response.Body, drainedBytes))
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// The status is the answer, whatever became of the text behind it.
	return s.judge(response, text)
}

// Check says, before anything is sent, what can never be.
func (s *Sender) Check(e *message.Envelope) error { return s.check(len(e.Body), e.Destination) }

func (s *Sender) check(bytes int, destination string) error {
	if most := s.settings.maxBody; most > 0 && bytes > most {
		return delivery.Reject(fmt.Errorf("its body has %d bytes, more than max_body_bytes %d", bytes, most))
	}
	_, err := s.target(destination)
	return err
}

func (s *Sender) request(ctx context.Context, e *message.Envelope) (*http.Request, error) {
	if err := s.Check(e); err != nil {
		return nil, err
	}
	target, err := s.target(e.Destination)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(e.Body))
	if err != nil {
		return nil, delivery.Reject(errors.New("its destination is not a path"))
	}
	request.Header = make(http.Header, len(e.Headers)+8)
	for _, h := range e.Headers {
		request.Header.Add(h.Name, fieldValue(h.Value))
	}
	if request.Header.Get("Content-Type") == "" {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("User-Agent", agent)
	if s.settings.token != "" {
		request.Header.Set("Authorization", "Bearer "+s.settings.token)
	}
	id := fieldValue(e.EventID)
	// By this header the client knows, too, that it may send the request again
	// when a connection that it kept turns out to be closed.
	request.Header.Set("Idempotency-Key", id)
	return request, s.signer.sign(request.Header, id, time.Now(), e.Body)
}

// target joins the path of the destination to the URL.
func (s *Sender) target(path string) (string, error) {
	path = strings.TrimPrefix(path, "/")
	if path == "" {
		return s.settings.url.String(), nil
	}
	u := *s.settings.url
	escaped := strings.TrimSuffix(u.EscapedPath(), "/") + "/" + path
	joined, err := u.Parse(escaped)
	// Parse resolves dots: no event leaves the path that the operator wrote.
	inside := strings.TrimSuffix(u.EscapedPath(), "/") + "/"
	if err != nil || joined.Host != u.Host || joined.RawQuery != "" || !strings.HasPrefix(joined.EscapedPath(), inside) {
		return "", delivery.Reject(fmt.Errorf("its destination %q is not a path", path))
	}
	joined.RawQuery = u.RawQuery
	return joined.String(), nil
}

// fieldValue writes as %XX what no header's value may hold.
func fieldValue(value string) string {
	if !strings.ContainsFunc(value, forbidden) {
		return value
	}
	var b strings.Builder
	for i := range len(value) {
		if c := value[i]; c < ' ' || c == 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(value[i])
	}
	return b.String()
}

func forbidden(r rune) bool { return r < ' ' || r == 0x7f }
