package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/pg-tide/pg-tide/internal/process"
)

// Node is one broker, through all the lives of its process.
type Node struct {
	// ID is its number, from 1 on.
	ID int

	cluster *Cluster
	dir     string
	ports   map[string]int
	told    []string
	process *process.Process
	log     *os.File
}

func (c *Cluster) newNode(ctx context.Context, id int, ports *ports) (*Node, error) {
	n := &Node{ID: id, cluster: c, dir: filepath.Join(c.dir, fmt.Sprintf("kafka-%d", id)), ports: map[string]int{}}
	names := []string{listenPlain, listenController, listenTLS, listenLogin, listenLoginTLS}
	for i := range c.options.Ways {
		names = append(names, way(i))
	}
	for _, name := range names {
		port, err := ports.free(ctx)
		if err != nil {
			return nil, err
		}
		n.ports[name] = port
	}
	n.told = make([]string, c.options.Ways)
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a place for Kafka: %w", err)
	}
	return n, nil
}

// ports finds free ports below those that the system gives to clients: one of
// these would be taken by anybody's connection while the broker is down.
type ports struct{ given map[int]bool }

func (p *ports) free(ctx context.Context) (int, error) {
	const lowest, highest, attempts = 12000, 32000, 100
	if p.given == nil {
		p.given = map[int]bool{}
	}
	var taken error
	for range attempts {
		port := lowest + rand.IntN(highest-lowest)
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", local(port))
		if err != nil || p.given[port] {
			taken = err
			continue
		}
		p.given[port] = true
		return port, listener.Close()
	}
	return 0, fmt.Errorf("find a free port: %w", taken)
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func (n *Node) on(listener string) string { return local(n.ports[listener]) }

// Address is where clients without a login connect.
func (n *Node) Address() string { return n.on(listenPlain) }

// Way is one more address, of the number that Options have as Ways.
func (n *Node) Way(i int) string { return n.on(way(i)) }

// Tell has clients that come by a way be told another address: that of a
// proxy, which leads to Way. It counts from the next start on.
func (n *Node) Tell(i int, address string) { n.told[i] = address }

// Log is the path of what the broker says.
func (n *Node) Log() string { return filepath.Join(n.cluster.dir, fmt.Sprintf("kafka-%d.log", n.ID)) }

// Start starts the broker, again on the same ports and data after Kill or
// Stop, and returns when it serves.
func (n *Node) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("start Kafka: not ready after %s", startTimeout))
	defer cancel()
	if err := n.launch(ctx); err != nil {
		return err
	}
	return n.await(ctx, len(n.cluster.Nodes))
}

// launch starts the process, if none runs.
func (n *Node) launch(ctx context.Context) error {
	if n.process != nil && n.process.Running() {
		return nil
	}
	if err := n.configure(); err != nil {
		return err
	}
	n.closeLog()
	log, err := os.OpenFile(n.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the log of Kafka: %w", err)
	}
	n.log = log
	if _, err := os.Stat(filepath.Join(n.data(), "meta.properties")); errors.Is(err, os.ErrNotExist) {
		if err := n.format(ctx); err != nil {
			return err
		}
	}
	n.process, err = process.Start(ctx, process.Options{
		Program: n.cluster.programs.java.Program, Output: log,
		Arguments: append(n.cluster.javaArguments(true), "kafka.Kafka", n.config()),
	})
	return err
}

// format prepares the broker's folder, as kafka-storage does.
func (n *Node) format(ctx context.Context) error {
	arguments := append(n.cluster.javaArguments(false), "kafka.tools.StorageTool", "format", "-t", n.cluster.id, "-c", n.config())
	p, err := process.Start(ctx, process.Options{
		Program: n.cluster.programs.java.Program, Output: n.log, Arguments: append(arguments, n.cluster.scramArguments()...),
	})
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Kill()
		return context.Cause(ctx)
	}
	if _, err := os.Stat(filepath.Join(n.data(), "meta.properties")); err != nil {
		return fmt.Errorf("prepare the folder of Kafka: %w\n%s", err, logEnd(n.Log()))
	}
	return nil
}

// await waits until the broker knows all of its cluster.
func (n *Node) await(ctx context.Context, brokers int) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for !knows(ctx, n.Address(), brokers) {
		select {
		case <-n.process.Done():
			return fmt.Errorf("start Kafka: it ended: %s", logEnd(n.Log()))
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), logEnd(n.Log()))
		case <-tick.C:
		}
	}
	return nil
}

// Process is the present process, running or not; nil before the first.
func (n *Node) Process() *process.Process { return n.process }

// Kill ends the broker by SIGKILL.
func (n *Node) Kill() {
	if n.process != nil {
		n.process.Kill()
	}
	n.closeLog()
}

// Stop ends the broker in good order.
func (n *Node) Stop() error { return n.stop(stopTimeout) }

func (n *Node) stop(patience time.Duration) error {
	if n.process == nil {
		return nil
	}
	defer n.closeLog()
	return n.process.Terminate(patience)
}

func (n *Node) closeLog() {
	if n.log != nil {
		_ = n.log.Close() // nobody writes to it any more
		n.log = nil
	}
}
