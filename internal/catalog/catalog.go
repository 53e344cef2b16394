package catalog

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pg-tide/pg-tide/schema"
)

// Options say which database to work in, and who works there.
type Options struct {
	// ConnString is a URL or key=value string. Empty means libpq's PG…
	// variables and service file, which also fill in what it leaves out.
	ConnString string
	// Relay names this process in tide.relay_instance.
	Relay RelayInfo
	// MaxConns bounds the pool; 0 means 8, or pool_max_conns of ConnString. Two
	// connections more are outside it.
	MaxConns int32
	// Logger is told what changes about the connection; nil means nobody is.
	Logger *slog.Logger
}

// RelayInfo is how a relay is known to the database and to people.
type RelayInfo struct {
	// ID is a UUID, new for each process.
	ID      string
	Host    string
	PID     int
	Version string
}

// Catalog is the connection to one database: a small pool, one direct
// connection that listens and holds the locks of sleepers, and one for
// heartbeats alone.
type Catalog struct {
	pool   *pgxpool.Pool
	heart  *heart
	relay  RelayInfo
	log    *slog.Logger
	where  target
	waker  *waker
	change chan struct{}
	// strictIsolation says that the database's default is not READ COMMITTED.
	strictIsolation atomic.Bool

	registry *Registry
}

const (
	applicationName = "pg-tide"
	defaultMaxConns = 8
	connectTimeout  = 10 * time.Second
	// statementTimeout bounds what the relay asks for by itself; reading a
	// page behind a cold cache is the slowest.
	statementTimeout = 30 * time.Second
)

// Open connects and checks that the schema is there. When it returns, the
// database could be reached, and every error it returns says what to do.
func Open(ctx context.Context, o Options) (*Catalog, error) {
	config, err := poolConfig(o)
	if err != nil {
		return nil, err
	}
	c := &Catalog{
		relay:  o.Relay,
		log:    o.Logger,
		where:  targetOf(config.ConnConfig),
		change: make(chan struct{}, 1),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, c.explain("connect", err)
	}
	if err := c.check(ctx); err != nil {
		c.pool.Close()
		return nil, err
	}
	c.heart = newHeart(config.ConnConfig)
	c.registry = &Registry{catalog: c}
	c.waker = startWaker(ctx, config.ConnConfig, c)
	return c, nil
}

// Close ends every connection and waits for what listens. It may be called twice.
func (c *Catalog) Close() {
	c.waker.stop()
	c.heart.close()
	c.pool.Close()
}

// Relay returns the id under which this relay is known.
func (c *Catalog) Relay() string { return c.relay.ID }

// Pool returns the pool, for statements that are nobody else's business.
func (c *Catalog) Pool() *pgxpool.Pool { return c.pool }

// Ping says whether the database answers, with an error for people if not.
func (c *Catalog) Ping(ctx context.Context) error {
	if err := c.pool.Ping(ctx); err != nil {
		return c.explain("reach the database", err)
	}
	return nil
}

// Changed is signalled when some configuration or ownership may have changed.
func (c *Catalog) Changed() <-chan struct{} { return c.change }

func (c *Catalog) signalChange() {
	select {
	case c.change <- struct{}{}:
	default: // a signal is waiting already
	}
}

func poolConfig(o Options) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(o.ConnString)
	if err != nil {
		return nil, explainParse(err)
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = applicationName
	}
	// Unnamed statements are planned for their parameters and for the tables as
	// they are now, and pass transaction poolers. See often for the exceptions.
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	config.AfterConnect = meet
	switch {
	case o.MaxConns > 0:
		config.MaxConns = o.MaxConns
	case config.ConnConfig.RuntimeParams["pool_max_conns"] == "" && config.MaxConns < defaultMaxConns:
		config.MaxConns = defaultMaxConns
	}
	return config, nil
}

// check makes sure that the schema is there and that this role may use it.
func (c *Catalog) check(ctx context.Context) error {
	var database string
	var installed, usable, standby bool
	err := c.pool.QueryRow(ctx, schemaCheckSQL).Scan(&database, &installed, &usable, &standby)
	if err != nil {
		return c.explain("connect", err)
	}
	c.where.database = database
	switch {
	case standby:
		return &Error{Problem: fmt.Sprintf("%s is a standby and cannot be written to", c.where),
			Hint: "point --postgres-url at the primary, or add target_session_attrs=read-write with several hosts"}
	case !installed:
		return &Error{Problem: fmt.Sprintf("the schema tide is not installed in %s", c.where),
			Hint: "run `pg-tide install --postgres-url …`, or `create extension pg_tide`, in that database"}
	case !usable:
		return &Error{Problem: fmt.Sprintf("role %q may not use the schema tide in %s", c.where.user, c.where),
			Hint: fmt.Sprintf("as an administrator: grant tide_relay to %s", pgx.Identifier{c.where.user}.Sanitize())}
	}
	return c.checkVersion(ctx)
}

// checkVersion makes sure that the schema is the one this program was built for.
func (c *Catalog) checkVersion(ctx context.Context) error {
	conn, err := c.pool.Acquire(ctx)
	if err != nil {
		return c.explain("connect", err)
	}
	defer conn.Release()
	err = schema.Verify(ctx, conn.Conn())
	var version *schema.VersionError
	if as(err, &version) {
		return &Error{Problem: fmt.Sprintf("the schema tide in %s has version %s and this pg-tide works with %s",
			c.where, version.Found, version.Expected), Hint: version.Remedy, Err: err}
	}
	return c.explain("check the schema's version", err)
}

// exec runs one statement that returns nothing and says how many rows it touched.
func (c *Catalog) exec(ctx context.Context, doing, sql string, args ...any) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	tag, err := c.pool.Exec(ctx, sql, args...)
	if err != nil {
		return 0, c.explain(doing, err)
	}
	return tag.RowsAffected(), nil
}

// sqlState returns the SQLSTATE of err, or "".
func sqlState(err error) string {
	var pgErr *pgconn.PgError
	if as(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}
