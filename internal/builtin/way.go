package builtin

import (
	"errors"
	"fmt"

	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/transform"
	"github.com/pg-tide/pg-tide/internal/wire"
)

// way is what happens to an event between the ends of a pipeline.
type way struct {
	expressions *transform.Expressions
	router      *transform.Router // nil on the way in
	codec       relay.Codec
	// batches says that the sink puts several events into one request.
	batches bool
}

// compileWay compiles expressions, routing and wire format.
func compileWay(values config.Values, technology *Technology, forward bool) (way, error) {
	var w way
	format, err := formatOf(values, technology)
	if err != nil {
		return way{}, err
	}
	if w.codec, err = wire.New(format, technology.Spelling()); err != nil {
		return way{}, err
	}
	w.batches = format == wire.FormatBatches
	t := values.Object("transform")
	w.expressions, err = transform.Compile(transform.Options{Language: t.String("language"), Filter: t.String("filter"), Payload: t.String("payload")})
	if err != nil || !forward {
		return w, err
	}
	w.router, err = compileRouter(values, technology)
	return w, err
}

// formatOf is the wire format that events have. Where there is no place for
// headers, all that is known of an event is in its body.
func formatOf(values config.Values, technology *Technology) (string, error) {
	format := values.String("wire_format")
	if format == wire.FormatBatches && !technology.Batches {
		return "", fmt.Errorf("key %q is %q, but %s takes, orders and acknowledges events one by one, and a batch holds several; write %q, which is the same event alone, or send batches with sink_type \"webhook\"",
			"wire_format", format, technology.Title, wire.FormatCloudEvents)
	}
	if !technology.Structured {
		return format, nil
	}
	if format != wire.FormatNative && format != wire.FormatCloudEvents {
		return "", fmt.Errorf("key %q is %q, but a line of %s is a structured CloudEvent, whose wire format is %q; leave the key out", "wire_format", format, technology.Name, wire.FormatCloudEvents)
	}
	return wire.FormatCloudEvents, nil
}

// templates are the texts of all destination templates.
func (w way) templates() []string {
	var texts []string
	for _, template := range w.router.Templates() {
		texts = append(texts, template.Text())
	}
	return texts
}

// compileRouter returns the change that fills in the destination. Every
// template that it may choose must make a destination of the technology.
func compileRouter(values config.Values, technology *Technology) (*transform.Router, error) {
	routing := values.Object("routing")
	unmatched := transform.Unmatched{To: technology.Name, Drop: routing.Bool("drop_unmatched")}
	if technology.TemplateKey != "" {
		unmatched.To = values.String(technology.TemplateKey)
	}
	if routing.Has("default") {
		unmatched.To = routing.String("default")
		switch {
		case unmatched.Drop:
			return nil, fmt.Errorf("key %q is %q, and %q sends the same events nowhere; keep one of them", "routing.default", unmatched.To, "routing.drop_unmatched")
		case unmatched.To == "":
			return nil, errors.New(`key "routing.default" is empty: to send what no rule matches nowhere, write "drop_unmatched": true`)
		}
	}
	var rules []transform.Rule
	for _, rule := range routing.List("rules") {
		rules = append(rules, transform.Rule{When: rule.String("when"), To: rule.String("subject"), Drop: rule.Bool("drop")})
	}
	router, err := transform.CompileRouter(values.Object("transform").String("language"), rules, unmatched, technology.Safe)
	if err != nil {
		return nil, err
	}
	templates := router.Templates()
	if len(templates) == 0 {
		return nil, transform.ErrNowhere
	}
	for _, template := range templates {
		if err := technology.Destination(template.Skeleton()); err != nil {
			return nil, fmt.Errorf("template %q cannot be a destination: %w", template.Text(), err)
		}
	}
	return router, nil
}
