package natstest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// StartCluster runs n servers that form one JetStream cluster until the test ends.
func StartCluster(t testing.TB, n int, options Options) []*Server {
	t.Helper()
	routes := make([]string, n)
	ports := make([]int, n)
	for i := range routes {
		port, err := freePort()
		if err != nil {
			t.Fatalf("find a port: %v", err)
		}
		ports[i], routes[i] = port, fmt.Sprintf("nats://127.0.0.1:%d", port)
	}
	servers := make([]*Server, n)
	extra := options.Extra
	for i := range servers {
		options.Extra = extra + fmt.Sprintf("\ncluster { name: test, listen: \"127.0.0.1:%d\", routes: [%s] }", ports[i], strings.Join(routes, ", "))
		server, err := New(t.TempDir(), options)
		if err != nil {
			t.Fatalf("prepare a NATS server: %v", err)
		}
		servers[i] = server
	}
	// Each waits for the others to be ready, so they start together.
	started := make(chan error, n)
	for _, server := range servers {
		t.Cleanup(server.Stop)
		go func() { started <- server.Run() }()
	}
	var failed error
	for range servers {
		failed = errors.Join(failed, <-started)
	}
	if failed != nil {
		t.Fatalf("start a NATS cluster: %v", failed)
	}
	return servers
}

// URLs joins the addresses of several servers as a configuration does.
func URLs(servers []*Server) string {
	urls := make([]string, len(servers))
	for i, server := range servers {
		urls[i] = server.URL()
	}
	return strings.Join(urls, ",")
}
