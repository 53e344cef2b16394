package archtest_test

// rule says what the packages of a folder may import.
type rule struct {
	// ours are folders of this module; "x/" means everything below x as well.
	ours []string
	// outside are modules or packages of others, by prefix; the standard
	// library is always allowed.
	outside []string
}

const (
	pgx  = "github.com/jackc/pgx/v5"
	nats = "github.com/nats-io/"
	// kafka is franz-go: its client, administration, errors and logins.
	kafka = "github.com/twmb/franz-go"
	// the SDK reads in tests what the product wrote, and the product never has it
	cloudEvents = "github.com/cloudevents/sdk-go/"
)

// onlyInTests must not be linked into anything that users run or import.
var onlyInTests = []string{"github.com/cloudevents/", "github.com/IBM/sarama", "go.uber.org/goleak", "pgregory.net/rapid",
	module + "/internal/testkit"}

// whatUsersGet is all that users run or import.
var whatUsersGet = []string{"cmd/pg-tide", "tide", "relay", "schema"}

// everything stands for every folder of ours but cli and testkit.
var everything = []string{"schema", "internal/fault", "internal/message", "internal/delivery", "internal/pipeline", "internal/relay",
	"internal/run", "internal/retry", "internal/catalog", "internal/connector/", "internal/push", "internal/wire/", "internal/transform/",
	"internal/builtin", "internal/config", "internal/httpserver", "internal/upkeep", "internal/telemetry", "internal/identity"}

// rules is the table of ARCHITECTURE.md. The longest folder that fits a
// package counts. Changing the architecture means changing this map in the
// same commit.
var rules = map[string]rule{
	"schema":          {outside: []string{pgx}},
	"tide":            {outside: []string{pgx}}, // what it imports, every user's binary has
	"tide/tidetest":   {ours: []string{"schema", "tide"}, outside: []string{pgx}},
	"relay":           {ours: []string{"internal/app"}},
	"schema/generate": {ours: []string{"schema", "internal/testkit/pgtest", "internal/throwaway"}, outside: []string{pgx}},
	"cmd/pg-tide":     {ours: []string{"internal/cli"}},

	"examples":    {},
	"examples/go": {outside: []string{pgx}},

	"internal/fault":    {},
	"internal/message":  {},
	"internal/run":      {},
	"internal/retry":    {outside: []string{"golang.org/x/sys"}},
	"internal/pipeline": {},
	"internal/delivery": {ours: []string{"internal/message"}},
	"internal/config":   {},
	"internal/relay": {ours: []string{"internal/fault", "internal/message", "internal/delivery", "internal/pipeline",
		"internal/run", "internal/retry"}},
	"internal/catalog": {ours: []string{"internal/fault", "internal/message", "internal/delivery", "internal/pipeline", "schema"}, outside: []string{pgx}},

	"internal/connector": {ours: []string{"internal/message", "internal/delivery", "internal/config", "internal/pipeline"}},
	"internal/connector/nats": {ours: []string{"internal/fault", "internal/message", "internal/delivery", "internal/config", "internal/pipeline"},
		outside: []string{nats}},
	"internal/connector/webhook": {ours: []string{"internal/message", "internal/delivery", "internal/config", "internal/pipeline", "internal/run", "internal/retry"},
		outside: []string{"github.com/standard-webhooks/standard-webhooks", "golang.org/x/time"}},
	"internal/connector/kafka": {ours: []string{"internal/fault", "internal/message", "internal/delivery", "internal/config", "internal/pipeline"},
		outside: []string{kafka}},
	"internal/connector/outbox":   {ours: []string{"internal/fault", "internal/message", "internal/delivery", "internal/config", "internal/pipeline", "internal/catalog"}},
	"internal/connector/inbox":    {ours: []string{"internal/message", "internal/delivery", "internal/config", "internal/pipeline", "internal/catalog"}},
	"internal/connector/stdio":    {ours: []string{"internal/message", "internal/delivery", "internal/config"}, outside: []string{"golang.org/x/sys"}},
	"internal/connector/postgres": {ours: []string{"internal/message", "internal/delivery", "internal/config", "internal/catalog"}, outside: []string{pgx}},

	"internal/wire": {ours: []string{"internal/message", "internal/delivery", "internal/config"}},
	"internal/transform": {ours: []string{"internal/message", "internal/delivery", "internal/config"},
		outside: []string{"cel.dev/cel-go", "github.com/google/cel-go", "github.com/jmespath-community/go-jmespath", "google.golang.org/protobuf"}},
	"internal/builtin": {ours: []string{"internal/relay", "internal/message", "internal/delivery", "internal/pipeline", "internal/config",
		"internal/catalog", "internal/connector/", "internal/push", "internal/wire/", "internal/transform/", "internal/builtin/"}},
	"internal/push": {ours: []string{"internal/message", "internal/delivery", "internal/pipeline", "internal/run", "internal/retry"}},

	"internal/upkeep": {ours: []string{"internal/catalog", "internal/retry"}},

	"internal/listing":    {outside: []string{pgx}},
	"internal/telemetry":  {ours: []string{"internal/pipeline"}, outside: []string{"github.com/prometheus/client_golang"}},
	"internal/httpserver": {},
	"internal/app":        {ours: everything, outside: []string{"github.com/prometheus/client_golang"}},
	"internal/cli": {ours: []string{"internal/app", "internal/builtin", "internal/catalog", "internal/config", "internal/demo",
		"internal/bench/", "internal/broker", "internal/listing", "internal/message", "internal/pipeline", "internal/telemetry", "internal/torture/", "schema", "tide"},
		outside: []string{pgx, "github.com/spf13/cobra", "github.com/spf13/pflag", "golang.org/x/term", "go.yaml.in/yaml/v3"}},

	"internal/bench":           {ours: []string{"internal/bench/", "internal/retry"}, outside: []string{pgx, nats}},
	"internal/bench/capture":   {},
	"internal/bench/fanout":    {ours: []string{"internal/bench/report", "internal/bench/world"}, outside: []string{nats}},
	"internal/bench/load":      {outside: []string{pgx}},
	"internal/bench/report":    {},
	"internal/bench/turns":     {ours: []string{"internal/bench/report", "internal/bench/world"}},
	"internal/bench/kafka":     {ours: []string{"internal/bench/report", "internal/bench/turns", "internal/bench/world", "internal/bench/yardstick"}},
	"internal/bench/world":     {ours: []string{"internal/broker", "internal/broker/kafka", "internal/process", "internal/retry", "internal/throwaway", "schema"}, outside: []string{pgx, nats, kafka}},
	"internal/bench/yardstick": {outside: []string{pgx, nats, kafka}},
	"internal/bench/working":   {ours: []string{"internal/bench/report", "internal/bench/world"}, outside: []string{pgx, "golang.org/x/sync"}},

	"internal/process":      {ours: []string{"internal/run"}},
	"internal/broker":       {ours: []string{"internal/process"}, outside: []string{nats}},
	"internal/broker/java":  {},
	"internal/broker/kafka": {ours: []string{"internal/broker/java", "internal/cache", "internal/process"}, outside: []string{kafka}},
	"internal/cache":        {},
	"internal/throwaway":    {ours: []string{"internal/cache"}, outside: []string{pgx, "github.com/fergusstrange/embedded-postgres", "golang.org/x/sys"}},
	"internal/demo": {ours: []string{"internal/app", "internal/throwaway", "internal/telemetry", "internal/demo/", "schema"},
		outside: []string{pgx, nats, kafka, "golang.org/x/term"}},
	"internal/torture": {ours: []string{"internal/torture/", "internal/broker", "internal/broker/kafka", "internal/process", "internal/throwaway", "internal/run"}},
	// the parts that are pure, or know one thing alone
	"internal/torture/check":   {},
	"internal/torture/clock":   {},
	"internal/torture/disk":    {},
	"internal/torture/mutate":  {ours: []string{"internal/fault", "internal/torture", "internal/torture/check"}},
	"internal/torture/plan":    {},
	"internal/torture/proxy":   {ours: []string{"internal/run"}},
	"internal/torture/traffic": {outside: []string{pgx}},
	"internal/torture/world": {ours: []string{"internal/broker", "internal/broker/kafka", "internal/torture/disk", "internal/process", "internal/torture/proxy",
		"internal/torture/traffic", "internal/throwaway", "internal/run", "schema"}, outside: []string{pgx, nats, kafka}},
	"internal/torture/inject": {ours: []string{"internal/torture/check", "internal/torture/plan", "internal/torture/proxy", "internal/torture/traffic",
		"internal/torture/world", "internal/run"}, outside: []string{pgx}},
	"internal/torture/collect": {ours: []string{"internal/torture/check", "internal/torture/traffic", "internal/torture/world"}, outside: []string{pgx}},
	"internal/torture/sample":  {ours: []string{"internal/torture/world"}, outside: []string{pgx}},
	"internal/testkit": {ours: append([]string{"internal/throwaway", "internal/testkit/"}, everything...),
		outside: []string{pgx, nats, "go.uber.org/goleak", "pgregory.net/rapid", cloudEvents}},
	// second opinions on the wire, each with the binding of one transport
	"internal/testkit/cloudevents": {outside: []string{cloudEvents, "github.com/IBM/sarama", nats}},
	"internal/testkit/kafkafetch":  {ours: []string{"internal/broker/kafka"}},
	"internal/testkit/kafkatest":   {ours: []string{"internal/broker/kafka", "internal/testkit/tlstest", "internal/torture/proxy"}, outside: []string{kafka, "go.uber.org/goleak"}},
	"internal/archtest":            {},
	"e2e":                          {ours: []string{"internal/fault", "internal/testkit/", "internal/throwaway", "internal/torture/disk"}, outside: []string{pgx, nats, kafka}},
}

// Budgets. Tests are not counted.
const (
	mostFunctionLines = 60
	mostFileLines     = 400
	mostPackageLines  = 1500
)

// longFunctions may be longer, each for the reason given.
var longFunctions = map[string]string{}

// largePackages may be larger, each for the reason given.
var largePackages = map[string]string{
	"internal/cli":               "one small file for each subcommand",
	"internal/relay":             "the engine: both directions, policies and supervision share one state",
	"internal/demo":              "set-up, traffic, workers, ledger, picture and verdict of one show",
	"internal/catalog":           "a file for each noun of the schema, a method for each statement",
	"internal/transform":         "two languages, templates and routing rules over one view of an event",
	"internal/connector/nats":    "one technology, one folder: connection, authentication, streams, both ends",
	"internal/connector/webhook": "one technology, one folder: posting within bounds on addresses, and taking posts signed in four ways",
	"tide":                       "publishing, working and CloudEvents under one name that users import",
	"internal/throwaway":         "finding, fetching and running PostgreSQL, with a file for each system",
	"internal/connector/kafka":   "one technology, one folder: connection, logins, topics, transactions, both ends",
}

// drawers are names that say nothing about what is inside.
var drawers = []string{"util", "utils", "helper", "helpers", "common", "misc", "types"}
