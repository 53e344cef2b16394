package kafkatest

import (
	"strings"

	"github.com/pg-tide/pg-tide/internal/torture/proxy"
)

// Way is one way to a cluster: a proxy before each broker, whose address the
// brokers tell the clients that come by it.
type Way struct{ proxies []*proxy.Proxy }

func (c *Cluster) openWays(ways int) error {
	for i := range ways {
		w := &Way{}
		c.ways = append(c.ways, w)
		for _, n := range c.Nodes {
			p, err := proxy.Start(c.ctx, n.Way(i))
			if err != nil {
				return err
			}
			w.proxies = append(w.proxies, p)
			n.Tell(i, p.Address())
		}
	}
	return nil
}

// Between is one of the ways that Options asked for, from 0 on.
func (c *Cluster) Between(way int) *Way { return c.ways[way] }

// Brokers is where clients connect to come by this way.
func (w *Way) Brokers() string {
	var all []string
	for _, p := range w.proxies {
		all = append(all, p.Address())
	}
	return strings.Join(all, ",")
}

// Cut closes all connections and refuses new ones, until Mend.
func (w *Way) Cut() { w.set(proxy.State{Cut: true}) }

// Silence passes nothing on and closes nothing, until Mend.
func (w *Way) Silence() { w.set(proxy.State{Silent: true}) }

// Mend lets everything pass again.
func (w *Way) Mend() { w.set(proxy.State{}) }

// Broker is the proxy before one broker, from 0 on.
func (w *Way) Broker(n int) *proxy.Proxy { return w.proxies[n] }

func (w *Way) set(state proxy.State) {
	for _, p := range w.proxies {
		p.Set(state)
	}
}

func (w *Way) close() {
	for _, p := range w.proxies {
		p.Close()
	}
}
