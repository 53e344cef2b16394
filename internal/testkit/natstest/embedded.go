package natstest

import (
	"fmt"

	"github.com/nats-io/nats-server/v2/server"
)

type embedded struct{ server *server.Server }

func runEmbedded(config string) (runner, error) {
	options, err := server.ProcessConfigFile(config)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	options.NoLog, options.NoSigs = true, true
	s, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("set up: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(startTimeout) {
		s.Shutdown()
		return nil, fmt.Errorf("not ready within %s", startTimeout)
	}
	return embedded{server: s}, nil
}

func (e embedded) stop() {
	e.server.Shutdown()
	e.server.WaitForShutdown()
}

func (e embedded) kill() { e.stop() }
