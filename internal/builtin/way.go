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
}

// compileWay compiles expressions, routing and wire format.
func compileWay(values config.Values, technology *Technology, forward bool) (way, error) {
	var w way
	var err error
	if w.codec, err = wire.New(values.String("wire_format"), technology.Spelling()); err != nil {
		return way{}, err
	}
	t := values.Object("transform")
	w.expressions, err = transform.Compile(transform.Options{Language: t.String("language"), Filter: t.String("filter"), Payload: t.String("payload")})
	if err != nil || !forward {
		return w, err
	}
	w.router, err = compileRouter(values, technology)
	return w, err
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
	unmatched := transform.Unmatched{To: values.String(technology.TemplateKey), Drop: routing.Bool("drop_unmatched")}
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
