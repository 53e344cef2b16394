// Package http reads and writes HTTP requests as CloudEvents with the
// CloudEvents SDK and its binding for HTTP, and nothing of ours: a second
// opinion for tests. It refuses to be part of the product.
package http

import (
	"context"
	"fmt"
	"net/http"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	protocol "github.com/cloudevents/sdk-go/v2/protocol/http"
)

// Read returns the event that a request carries, and consumes its body.
func Read(ctx context.Context, request *http.Request) (*event.Event, error) {
	e, err := binding.ToEvent(ctx, protocol.NewMessageFromHttpRequest(request))
	if err != nil {
		return nil, fmt.Errorf("read an HTTP request as a CloudEvent: %w", err)
	}
	return e, nil
}

// ReadBatch returns the events that a request carries as a batch, and consumes
// its body.
func ReadBatch(request *http.Request) ([]event.Event, error) {
	if !protocol.IsHTTPBatch(request.Header) {
		return nil, fmt.Errorf("read an HTTP request as a batch of CloudEvents: its content type is %q", request.Header.Get("Content-Type"))
	}
	all, err := protocol.NewEventsFromHTTPRequest(request)
	if err != nil {
		return nil, fmt.Errorf("read an HTTP request as a batch of CloudEvents: %w", err)
	}
	return all, nil
}

// Write makes a POST request of an event.
func Write(ctx context.Context, url string, e *event.Event, structured bool) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("make a request to %s: %w", url, err)
	}
	mode := binding.WithForceBinary(ctx)
	if structured {
		mode = binding.WithForceStructured(ctx)
	}
	if err := protocol.WriteRequest(mode, binding.ToMessage(e), request); err != nil {
		return nil, fmt.Errorf("write a CloudEvent as an HTTP request: %w", err)
	}
	return request, nil
}
