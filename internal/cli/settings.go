package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pg-tide/pg-tide/internal/config"
)

// settings are the values of the flags that have a twin in the environment
// and a key in the configuration file.
type settings struct {
	configFile      string
	postgresURL     string
	postgresURLFile string
	output          string
	httpAddr        string
	metricsAddr     string
	drainTimeout    time.Duration
	logFormat       string
	logLevel        string
	// from says where a setting came from, by flag name; absent when it is the default.
	from map[string]origin
}

// origin is where a setting's value came from; a greater one wins.
type origin int

const (
	fromDefault origin = iota
	fromFile
	fromEnvironment
	fromFlag
)

// The flags that have twins. Those that confirm something (--yes) have none:
// a variable left over in a shell must not remove data.
const (
	flagConfig          = "config"
	flagPostgresURL     = "postgres-url"
	flagPostgresURLFile = "postgres-url-file"
	flagOutput          = "output"
	flagHTTPAddr        = "http-addr"
	flagMetricsAddr     = "metrics-addr"
	flagDrainTimeout    = "drain-timeout"
	flagLogFormat       = "log-format"
	flagLogLevel        = "log-level"
)

// twins lists the flags that may be set by environment and file.
func twins() []string {
	return []string{flagConfig, flagPostgresURL, flagPostgresURLFile, flagOutput, flagHTTPAddr, flagMetricsAddr,
		flagDrainTimeout, flagLogFormat, flagLogLevel}
}

const variablePrefix = "PG_TIDE_"

// variable is a flag's twin in the environment.
func variable(flag string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// key is a flag's twin in the configuration file.
func key(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

// usage is the help of a flag that has a twin.
func usage(flag, help string) string { return fmt.Sprintf("%s (env %s)", help, variable(flag)) }

const defaultHTTPAddr = "127.0.0.1:8433"

func (p *program) globalFlags(flags *pflag.FlagSet) {
	s := &p.settings
	flags.StringVar(&s.postgresURL, flagPostgresURL, "", usage(flagPostgresURL, "connection `URL` of the database, or libpq's key=value form"))
	flags.StringVar(&s.postgresURLFile, flagPostgresURLFile, "", usage(flagPostgresURLFile, "`FILE` that holds the connection URL, to keep it off the command line"))
	flags.StringVar(&s.configFile, flagConfig, "", usage(flagConfig, "YAML `FILE` with settings named as the flags: postgres_url, http_addr, …"))
}

func (p *program) relayFlags(flags *pflag.FlagSet) {
	s := &p.settings
	flags.StringVar(&s.httpAddr, flagHTTPAddr, defaultHTTPAddr, usage(flagHTTPAddr,
		"`ADDRESS` of /metrics, /livez and /readyz; when the default is taken the next free port is used; off for none"))
	flags.StringVar(&s.metricsAddr, flagMetricsAddr, "", usage(flagMetricsAddr, "the same as --http-addr, whose `ADDRESS` it is"))
	flags.DurationVar(&s.drainTimeout, flagDrainTimeout, 5*time.Second, usage(flagDrainTimeout, "`DURATION` that SIGTERM waits for what is in flight"))
	flags.StringVar(&s.logFormat, flagLogFormat, "auto", usage(flagLogFormat, "`FORMAT`: text, json, or auto for text on a terminal and json elsewhere"))
	flags.StringVar(&s.logLevel, flagLogLevel, "info", usage(flagLogLevel, "`LEVEL`: debug, info, warn or error"))
}

const (
	outputTable = "table"
	outputJSON  = "json"
)

func (p *program) outputFlag(command *cobra.Command) {
	command.Flags().StringVarP(&p.settings.output, flagOutput, "o", outputTable, usage(flagOutput, "`FORMAT`: table or json"))
	p.complete(command, flagOutput, outputTable, outputJSON)
}

// complete lets a shell complete a flag's value.
func (p *program) complete(command *cobra.Command, flag string, values ...string) {
	// The only error is a flag that does not exist, and it was just declared.
	_ = command.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// prepare runs before every command: flags, then environment, then file.
func (p *program) prepare(cmd *cobra.Command, _ []string) error {
	if cmd.HasParent() && cmd.Parent().Name() == "completion" || cmd.Name() == "help" {
		p.started = true
		return nil
	}
	s := &p.settings
	s.from = map[string]origin{}
	p.warnOfTypos()
	for _, name := range twins() {
		if err := p.fromEnvironment(cmd, name); err != nil {
			return err
		}
	}
	if s.configFile != "" {
		if err := p.fromFile(cmd, s.configFile); err != nil {
			return err
		}
	}
	if err := s.check(); err != nil {
		return err
	}
	if err := s.readURLFile(); err != nil {
		return err
	}
	p.started = true
	return nil
}

func (p *program) lookup(name string) (string, bool) {
	for _, entry := range slices.Backward(p.Environ) {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// fromEnvironment takes a flag's value from its twin. An empty variable counts as absent.
func (p *program) fromEnvironment(cmd *cobra.Command, name string) error {
	flag := cmd.Flags().Lookup(name)
	if name == flagConfig {
		// A command whose own --config is another file hides this one, and
		// leaves its twin to name it.
		flag = cmd.Root().PersistentFlags().Lookup(name)
	}
	if flag == nil {
		return nil
	}
	if flag.Changed {
		p.settings.from[name] = fromFlag
		return nil
	}
	value, _ := p.lookup(variable(name))
	if value == "" {
		return nil
	}
	if err := flag.Value.Set(value); err != nil {
		return usagef("the environment variable %s is %q: %w", variable(name), value, err)
	}
	p.settings.from[name] = fromEnvironment
	return nil
}

// warnOfTypos names variables that look like a twin and are none. It only
// warns: Kubernetes sets PG_TIDE_PORT and others for a service named pg-tide.
func (p *program) warnOfTypos() {
	var known []string
	for _, name := range twins() {
		known = append(known, strings.TrimPrefix(variable(name), variablePrefix))
	}
	for _, entry := range p.Environ {
		name, _, _ := strings.Cut(entry, "=")
		word, ours := strings.CutPrefix(name, variablePrefix)
		if !ours || slices.Contains(known, word) {
			continue
		}
		if near := config.Nearest(word, known); near != "" {
			fmt.Fprintf(p.Err, "pg-tide: the environment variable %s is not used; did you mean %s?\n", name, variablePrefix+near)
		}
	}
}

// check refuses values that no command can work with.
func (s *settings) check() error {
	if s.output != "" && s.output != outputTable && s.output != outputJSON {
		return usagef("--output is %q: it must be table or json", s.output)
	}
	if s.logFormat != "" && !slices.Contains([]string{"auto", "text", "json"}, s.logFormat) {
		return usagef("--log-format is %q: it must be auto, text or json", s.logFormat)
	}
	if s.drainTimeout < 0 {
		return usagef("--drain-timeout is %s: it must not be negative", s.drainTimeout)
	}
	if s.from[flagMetricsAddr] != fromDefault {
		if s.from[flagHTTPAddr] != fromDefault && s.httpAddr != s.metricsAddr {
			return usagef("--http-addr is %q and --metrics-addr is %q: they mean the same, give one", s.httpAddr, s.metricsAddr)
		}
		s.httpAddr, s.from[flagHTTPAddr] = s.metricsAddr, s.from[flagMetricsAddr]
	}
	return nil
}

// readURLFile replaces the URL by a file's content, unless the URL was given
// in a stronger way.
func (s *settings) readURLFile() error {
	if s.postgresURLFile == "" || s.from[flagPostgresURL] > s.from[flagPostgresURLFile] {
		return nil
	}
	if s.from[flagPostgresURL] == s.from[flagPostgresURLFile] {
		return usagef("both --postgres-url and --postgres-url-file are given: give one")
	}
	text, err := os.ReadFile(s.postgresURLFile)
	if err != nil {
		return usagef("read the file of --postgres-url-file: %w", err)
	}
	s.postgresURL = strings.TrimSpace(string(text))
	if s.postgresURL == "" {
		return usagef("the file %s of --postgres-url-file is empty: it must hold a connection URL", s.postgresURLFile)
	}
	return nil
}
