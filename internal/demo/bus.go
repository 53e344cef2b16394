package demo

import (
	"context"
	"fmt"
	"strings"
)

// The buses that the demo can run over.
const (
	BusNATS  = "nats"
	BusKafka = "kafka"
)

// bus is the broker of the demo.
type bus interface {
	// name is what people call it, and place where in it the events are.
	name() string
	place() string
	// url is where clients connect, as a pipeline's configuration has it;
	// inTutorial what the SQL has in its place.
	url() string
	inTutorial() string
	// pipelines is the SQL that gives a service its pipelines.
	pipelines(service string) string
	// watch counts what services publish and shows each id to the observer,
	// until close.
	watch(ctx context.Context, observe func(id string), failed func(error)) error
	seen() int
	// lost says why the broker no longer works, if so.
	lost() error
	close()
}

// newBus starts the broker that was asked for, or reaches that of the user.
func (s *show) newBus(ctx context.Context, name string) (bus, error) {
	if s.options.Bus == BusKafka {
		return newKafka(ctx, s.options.Brokers)
	}
	// What lies in the server's directory is removed with it.
	return startBroker(s.postgres.Dir, name)
}

// check says what is wrong with the choice of a bus.
func (o Options) check() error {
	switch {
	case o.Bus != BusNATS && o.Bus != BusKafka:
		return &OptionError{fmt.Sprintf("the demo cannot run over %q: it can over %s and %s", o.Bus, BusNATS, BusKafka)}
	case o.Brokers != "" && o.Bus != BusKafka:
		return &OptionError{fmt.Sprintf("the brokers %s are Kafka's, and the bus is %s: say --bus %s", o.Brokers, o.Bus, BusKafka)}
	}
	return nil
}

// starting names the broker that is started, if one is.
func (o Options) starting() string {
	switch {
	case o.Bus == BusNATS:
		return "NATS, "
	case o.Brokers == "":
		return "kfake as a stand-in for Kafka, "
	}
	return ""
}

func busTitle(name string) string {
	if name == BusKafka {
		return "Kafka"
	}
	return "NATS"
}

// at puts the broker's address into a service's SQL.
func at(b bus, text string) string { return strings.ReplaceAll(text, b.inTutorial(), b.url()) }
