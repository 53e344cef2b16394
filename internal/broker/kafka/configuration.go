package kafka

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The names of listeners.
const (
	listenPlain      = "PLAINTEXT"
	listenController = "CONTROLLER"
	listenTLS        = "TLS"
	listenLogin      = "LOGIN"
	listenLoginTLS   = "LOGIN_TLS"
)

func way(i int) string { return "WAY_" + strconv.Itoa(i) }

// javaArguments are what Java is told. A broker that is soon gone is better
// off with what starts fast.
func (c *Cluster) javaArguments(broker bool) []string {
	arguments := []string{"-Xmx512m", "-Xms64m"}
	if !c.options.Optimize || !broker {
		arguments = append(arguments, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
	}
	if c.programs.classes != "" {
		arguments = append(arguments, "-XX:SharedArchiveFile="+c.programs.classes)
	}
	if broker {
		arguments = append(arguments, c.options.javaFlags...)
	}
	if l := c.options.Login; l != nil && l.Keys != "" {
		arguments = append(arguments, "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://"+l.Keys)
	}
	return append(arguments,
		"-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
		// they list some hundred settings at each start
		"-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
		"-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.metrics=warn",
		"-cp", filepath.Join(c.programs.jars, "*"))
}

func (c *Cluster) scramArguments() []string {
	var arguments []string
	if c.options.Login != nil {
		for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
			for name, password := range c.options.Login.Users {
				arguments = append(arguments, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, name, password))
			}
		}
	}
	return arguments
}

func (n *Node) config() string { return filepath.Join(n.dir, "server.properties") }

func (n *Node) data() string {
	return filepath.Join(n.cluster.options.Store, fmt.Sprintf("kafka-%d", n.ID), "data")
}

// configure writes the broker's configuration.
func (n *Node) configure() error {
	settings := n.cluster.settings()
	settings["node.id"] = strconv.Itoa(n.ID)
	settings["log.dirs"] = n.data()
	n.listen(settings)
	if err := n.encrypt(settings); err != nil {
		return err
	}
	n.letIn(settings)
	maps.Copy(settings, n.cluster.options.Settings)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s=%s\n", name, settings[name])
	}
	if err := os.WriteFile(n.config(), []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("write the configuration of Kafka: %w", err)
	}
	return nil
}

// settings are those that all brokers share.
func (c *Cluster) settings() map[string]string {
	copies := strconv.Itoa(len(c.Nodes))
	inSync := strconv.Itoa((len(c.Nodes) + 1) / 2)
	voters := c.at(func(n *Node) string { return fmt.Sprintf("%d@%s", n.ID, n.on(listenController)) })
	settings := map[string]string{
		"process.roles":              "broker,controller",
		"controller.quorum.voters":   strings.Join(voters, ","),
		"default.replication.factor": copies, "min.insync.replicas": inSync,
		"offsets.topic.replication.factor": copies, "offsets.topic.num.partitions": "1",
		"transaction.state.log.replication.factor": copies, "transaction.state.log.num.partitions": "1",
		"transaction.state.log.min.isr":                inSync,
		"share.coordinator.state.topic.num.partitions": "1", "share.coordinator.state.topic.replication.factor": copies,
		"share.coordinator.state.topic.min.isr": inSync,
		"group.initial.rebalance.delay.ms":      "0",
		// a broker that was killed may not come back before its session is over
		"broker.heartbeat.interval.ms": "1000", "broker.session.timeout.ms": "5000",
		// a machine may be busy with a whole test suite
		"controller.quorum.election.timeout.ms": "3000", "controller.quorum.fetch.timeout.ms": "6000",
		"controller.quorum.request.timeout.ms": "6000",
		"log.cleaner.dedupe.buffer.size":       "8388608",
		"num.network.threads":                  "1", "num.io.threads": "4",
	}
	if c.options.Authorize {
		settings["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
		settings["super.users"] = "User:ANONYMOUS"
	}
	return settings
}

// listen adds the listeners.
func (n *Node) listen(settings map[string]string) {
	o := n.cluster.options
	protocols := map[string]string{listenPlain: "PLAINTEXT", listenController: "PLAINTEXT"}
	if o.TLS != nil {
		protocols[listenTLS] = "SSL"
	}
	if o.Login != nil {
		protocols[listenLogin] = "SASL_PLAINTEXT"
	}
	if o.TLS != nil && o.Login != nil {
		protocols[listenLoginTLS] = "SASL_SSL"
	}
	for i := range o.Ways {
		protocols[way(i)] = "PLAINTEXT"
	}
	var listeners, told, types []string
	for _, name := range slices.Sorted(maps.Keys(protocols)) {
		types = append(types, name+":"+protocols[name])
		listeners = append(listeners, name+"://"+n.on(name))
		if name != listenController {
			told = append(told, name+"://"+n.on(name))
		}
	}
	for i, address := range n.told {
		if address != "" {
			told[slices.Index(told, way(i)+"://"+n.Way(i))] = way(i) + "://" + address
		}
	}
	settings["listeners"] = strings.Join(listeners, ",")
	settings["advertised.listeners"] = strings.Join(told, ",")
	settings["listener.security.protocol.map"] = strings.Join(types, ",")
	settings["controller.listener.names"] = listenController
	settings["inter.broker.listener.name"] = listenPlain
}

// encrypt adds what TLS needs; Kafka wants key and certificate in one file.
func (n *Node) encrypt(settings map[string]string) error {
	t := n.cluster.options.TLS
	if t == nil {
		return nil
	}
	key, err := os.ReadFile(t.Key)
	if err != nil {
		return fmt.Errorf("read the key of Kafka: %w", err)
	}
	cert, err := os.ReadFile(t.Cert)
	if err != nil {
		return fmt.Errorf("read the certificate of Kafka: %w", err)
	}
	both := filepath.Join(n.dir, "server.pem")
	if err := os.WriteFile(both, bytes.Join([][]byte{key, cert}, []byte("\n")), 0o600); err != nil {
		return fmt.Errorf("write the certificate of Kafka: %w", err)
	}
	settings["ssl.keystore.type"], settings["ssl.keystore.location"] = "PEM", both
	settings["ssl.truststore.type"], settings["ssl.truststore.location"] = "PEM", t.CA
	if t.Mutual {
		settings["listener.name."+strings.ToLower(listenTLS)+".ssl.client.auth"] = "required"
	}
	return nil
}

// letIn adds who may log in, and by what.
func (n *Node) letIn(settings map[string]string) {
	l := n.cluster.options.Login
	if l == nil {
		return
	}
	const modules = "org.apache.kafka.common.security."
	plain := modules + "plain.PlainLoginModule required"
	for _, name := range slices.Sorted(maps.Keys(l.Users)) {
		plain += fmt.Sprintf(" user_%s=%q", name, l.Users[name])
	}
	mechanisms := []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}
	logins := map[string]string{
		"plain":         plain + ";",
		"scram-sha-256": modules + "scram.ScramLoginModule required;",
		"scram-sha-512": modules + "scram.ScramLoginModule required;",
	}
	if l.Keys != "" {
		mechanisms = append(mechanisms, "OAUTHBEARER")
		logins["oauthbearer"] = modules + "oauthbearer.OAuthBearerLoginModule required;"
		settings["sasl.oauthbearer.jwks.endpoint.url"] = "file://" + l.Keys
		settings["sasl.oauthbearer.expected.issuer"] = l.Issuer
		settings["sasl.oauthbearer.expected.audience"] = l.Audience
	}
	for _, listener := range []string{listenLogin, listenLoginTLS} {
		prefix := "listener.name." + strings.ToLower(listener) + "."
		settings[prefix+"sasl.enabled.mechanisms"] = strings.Join(mechanisms, ",")
		for mechanism, login := range logins {
			settings[prefix+mechanism+".sasl.jaas.config"] = login
		}
		if l.Keys != "" {
			settings[prefix+"oauthbearer.sasl.server.callback.handler.class"] = modules + "oauthbearer.OAuthBearerValidatorCallbackHandler"
		}
	}
}
