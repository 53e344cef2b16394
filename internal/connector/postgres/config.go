package postgres

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/internal/config"
)

// Values is what the connector needs of a decoded configuration: aliases
// folded, defaults filled in, secrets resolved.
type Values interface {
	String(name string) string
}

// InboxFields declares the keys of a pipeline with "sink_type": "pg_inbox".
func InboxFields() []config.Field {
	return append(connectionFields(), config.Field{Name: keyInbox, Kind: config.String, Required: true,
		Help: "Name of the inbox there, with placeholders"})
}

// OutboxFields declares the keys of a pipeline with "sink_type": "pg_outbox".
func OutboxFields() []config.Field {
	return append(connectionFields(), config.Field{Name: keyOutbox, Kind: config.String, Required: true,
		Help: "Name of the outbox there, with placeholders"})
}

const (
	keyInbox  = "inbox"
	keyOutbox = "outbox"
)

func connectionFields() []config.Field {
	return []config.Field{
		{Name: "url", Kind: config.String, Required: true,
			Help: "The other database, postgres://role@host:5432/database; several hosts are separated by commas"},
		{Name: "password", Kind: config.String, Secret: true, Help: "Password of the role, where the URL has none"},
		{Name: "tls_ca_file", Kind: config.String, Help: "Path of the certificates that the server's is checked against; else the system's"},
		{Name: "tls_cert_file", Kind: config.String, Help: "Path of the client's certificate"},
		{Name: "tls_key_file", Kind: config.String, Help: "Path of the client's private key"},
	}
}

// connection reads the keys that say where the other database is. Its errors
// hold no password.
func connection(values Values) (*pgxpool.Config, error) {
	u, err := url.Parse(values.String("url"))
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, errors.New(`key "url" must be a URL such as postgres://role@host:5432/database`)
	}
	query := u.Query()
	host := u.Host
	if host == "" {
		host = query.Get("host")
	}
	switch {
	case host == "":
		return nil, errors.New(`key "url" names no host: what it leaves out is never taken from the relay's own PG… variables`)
	case u.User.Username() == "" && query.Get("user") == "":
		return nil, errors.New(`key "url" names no role: write postgres://role@host:5432/database`)
	case strings.Trim(u.Path, "/") == "" && query.Get("dbname") == "":
		return nil, errors.New(`key "url" names no database: write postgres://role@host:5432/database`)
	}
	if !query.Has("sslmode") {
		query.Set("sslmode", "verify-full")
		if isLocal(host) {
			query.Set("sslmode", "prefer")
		}
	}
	for key, parameter := range map[string]string{"tls_ca_file": "sslrootcert", "tls_cert_file": "sslcert", "tls_key_file": "sslkey"} {
		if value := values.String(key); value != "" {
			query.Set(parameter, value)
		}
	}
	u.RawQuery = query.Encode()
	parsed, err := pgxpool.ParseConfig(u.String())
	if err != nil {
		return nil, fmt.Errorf("key %q cannot be understood: %w", "url", cause(err))
	}
	_, inURL := u.User.Password()
	switch {
	case values.String("password") != "":
		parsed.ConnConfig.Password = values.String("password")
	case !inURL && !query.Has("password") && parsed.ConnConfig.Password == os.Getenv("PGPASSWORD"):
		// That one is for the relay's own database, and none of the other's business.
		parsed.ConnConfig.Password = ""
	}
	return parsed, nil
}

// isLocal tells whether all hosts of a list are this machine, where nothing
// leaves it and servers have no certificate as a rule.
func isLocal(hosts string) bool {
	for _, host := range strings.Split(hosts, ",") {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		ip := net.ParseIP(strings.Trim(host, "[]"))
		if host != "localhost" && !strings.HasPrefix(host, "/") && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

// cause is the innermost error: those around it repeat the URL.
func cause(err error) error {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err
}

// SafeName makes a value safe within the name of an inbox or an outbox.
func SafeName(value string, dotsAllowed bool) string {
	safe := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-', r == '.' && dotsAllowed:
			return r
		}
		return '_'
	}, value)
	if safe == "" {
		return "_"
	}
	return safe
}

const longestName = 48

// CheckName says what is wrong with the name of an inbox or an outbox, as the
// schema would.
func CheckName(name string) error {
	switch {
	case len(name) > longestName:
		return fmt.Errorf("a name has %d characters at most", longestName)
	case name != SafeName(name, true) || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_", rune(name[0])):
		return errors.New("a name starts with a letter or an underscore and goes on with those, digits, dots and hyphens")
	}
	return nil
}
