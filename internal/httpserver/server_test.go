package httpserver_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/pg-tide/pg-tide/internal/httpserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(address string) httpserver.Options {
	return httpserver.Options{
		Address: address,
		Logger:  slog.New(slog.DiscardHandler),
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "tide_up 1\n") }),
		Ready:   func() httpserver.Readiness { return httpserver.Readiness{Ready: true} },
	}
}

func start(t *testing.T, o httpserver.Options) *httpserver.Server {
	t.Helper()
	server, err := httpserver.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return server
}

func get(t *testing.T, server *httpserver.Server, path string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + server.Address() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestAnswersProbesAndMetrics(t *testing.T) {
	server := start(t, options("127.0.0.1:0"))
	for path, want := range map[string]string{"/livez": "alive", "/healthz": "alive", "/readyz": `"ready":true`, "/metrics": "tide_up 1", "/": "/metrics"} {
		if status, body := get(t, server, path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s answers %d %q, want 200 with %q", path, status, body, want)
		}
	}
	if status, _ := get(t, server, "/nothing"); status != http.StatusNotFound {
		t.Errorf("an unknown path answers %d", status)
	}
}

func TestNotReadySaysWhy(t *testing.T) {
	o := options("127.0.0.1:0")
	o.Ready = func() httpserver.Readiness {
		return httpserver.Readiness{Reasons: []string{"the database cannot be reached"}}
	}
	server := start(t, o)
	status, body := get(t, server, "/readyz")
	var answer httpserver.Readiness
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	if status != http.StatusServiceUnavailable || len(answer.Reasons) != 1 || answer.Ready {
		t.Errorf("answers %d %s", status, body)
	}
	if status, _ := get(t, server, "/livez"); status != http.StatusOK {
		t.Errorf("a process that is not ready must still be alive, answers %d", status)
	}
}

func TestTakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	o := options(taken.Addr().String())
	if _, err := httpserver.Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "is taken") || !strings.Contains(err.Error(), "--http-addr") {
		t.Errorf("an address given by hand that is taken: %v", err)
	}
	o.NextFree = true
	if server := start(t, o); server.Address() == taken.Addr().String() {
		t.Error("the next free port was not taken")
	}
}

func TestWrongAddressNamesTheRule(t *testing.T) {
	for _, address := range []string{"", "nonsense", "127.0.0.1", ":http2x", "127.0.0.1:70000"} {
		if _, err := httpserver.Start(t.Context(), options(address)); err == nil || !strings.Contains(err.Error(), "host:port") {
			t.Errorf("%q: %v", address, err)
		}
	}
}
