# `make` prints this help. CI calls the same targets.
GO       ?= go
TOOLS    := $(GO) tool -modfile=tools/go.mod
PACKAGES ?= ./...
PG_CONFIG ?= pg_config
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# The race detector needs a C compiler; without one the tests run without it and say so.
HAVE_CC  := $(shell command -v gcc >/dev/null 2>&1 && echo yes)
RACE     := $(if $(HAVE_CC),-race,)

.PHONY: help build test fmt fmt-check vet lint generate verify conformance demo bench bench-short bench-short-baseline bench-peers compare-debezium check-peers check-clients allocations torture mutations mutations-torture install clean

help: ## print this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 14

build: ## build the static binary into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/pg-tide ./cmd/pg-tide

test: ## run every test (brings PostgreSQL, NATS and Kafka by itself; Kafka by Maven, and it needs Java 17)
	@$(if $(HAVE_CC),,echo "no C compiler found: running without the race detector")
	@$(GO) run ./internal/testkit/pgfetch
	@$(GO) run ./internal/testkit/kafkafetch
	$(TOOLS) gotestsum --format pkgname-and-test-fails -- $(RACE) -count=1 -timeout 20m $(PACKAGES)

fmt: ## format the Go code
	gofmt -w $$(git ls-files '*.go')

fmt-check: ## fail when gofmt would change something
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi

vet: ## go vet
	$(GO) vet ./...

lint: ## golangci-lint, the version pinned in tools/go.mod
	$(TOOLS) golangci-lint run ./...

generate: ## write the generated files again
	$(GO) run ./internal/builtin/docgen
	$(GO) run ./schema/generate

verify: ## fail when a generated file differs from its source
	$(GO) run ./internal/builtin/docgen --check
	$(GO) run ./schema/generate --check

conformance: ## run the conformance suites of all technologies, and write what they passed
	PG_TIDE_CONFORMANCE=write $(GO) test -count=1 -run Conformance ./internal/connector/...
	$(GO) run ./internal/builtin/docgen

demo: ## see the whole bus move
	$(GO) run ./cmd/pg-tide demo

bench: ## measure everything beside loops written by hand
	$(GO) run ./cmd/pg-tide bench

bench-short: ## a few of its ratios, beside those of an earlier run
	$(GO) run ./cmd/pg-tide bench $(BENCH_SHORT) --baseline bench/results/short.json

bench-short-baseline: ## measure what bench-short compares with
	$(GO) run ./cmd/pg-tide bench $(BENCH_SHORT) --output json > bench/results/short.json

BENCH_SHORT := bulk forward reverse idle --events 100000 --rounds 3 --size 200

# The peers are a module of their own, so that the product depends on none of
# what they need. Debezium Server is fetched by Maven, once, and needs Java 21.
PEERS_JSON ?= $(CURDIR)/bench/results/peers.json
bench-peers: build ## measure pg_tide beside its peers, in a quarter of an hour
	cd bench/peers && CGO_ENABLED=0 $(GO) build -o $(CURDIR)/bin/peers .
	bin/peers -program $(CURDIR)/bin/pg-tide -json $(PEERS_JSON) $(PEERS_FLAGS)

compare-debezium: build ## compare the wire format debezium with what a real Debezium Server sends
	cd bench/peers && CGO_ENABLED=0 $(GO) build -o $(CURDIR)/bin/peers .
	bin/peers layout $(CURDIR)/bin/pg-tide

check-peers: ## vet, lint and test the module of the peers
	cd bench/peers && $(GO) vet ./... && $(GO) test -count=1 ./...
	cd bench/peers && $(GO) tool -modfile=$(CURDIR)/tools/go.mod golangci-lint run -c $(CURDIR)/.golangci.yml ./...

check-clients: ## vet, lint and test the module that has the Go library beside others
	cd bench/clients && $(GO) vet ./... && $(GO) test -count=1 ./...
	cd bench/clients && $(GO) tool -modfile=$(CURDIR)/tools/go.mod golangci-lint run -c $(CURDIR)/.golangci.yml ./...

allocations: ## what an event costs in memory: ceilings, without the race detector
	$(GO) test -count=1 -run '^TestAllocations' ./internal/wire ./internal/catalog ./internal/connector/nats

# How long each run takes, and where it leaves what it found.
TORTURE_FOR ?= 30m
TORTURE_DIR ?= torture-artefacts

MUTATION_TABLE ?= $(CURDIR)/mutation-table.md

# A pg-tide whose wall clock can be set while it runs. Go's own commands pass
# by a folder whose name begins so.
CLOCK := bin/_clock
.PHONY: bin/pg-tide-torture
bin/pg-tide-torture:
	$(GO) run ./internal/torture/clock -dir $(CLOCK)
	$(GO) build -overlay $(CLOCK)/overlay.json -tags tide_clock -o $@ ./cmd/pg-tide

mutations: ## be wrong on purpose in every way that is known, and see that it is noticed
	PG_TIDE_MUTATION_TABLE=$(MUTATION_TABLE) $(GO) test -count=1 -parallel 6 -run '^TestAWrongRelayIsNoticed$$' ./e2e
	cat $(MUTATION_TABLE)

mutations-torture: ## the same by the chances of a torture, which takes half an hour
	$(GO) run ./internal/torture/mutate

torture: bin/pg-tide-torture ## break everything for half an hour on the oldest and the newest PostgreSQL
	bin/pg-tide-torture torture --for $(TORTURE_FOR) --postgres oldest --dir $(TORTURE_DIR)/oldest
	bin/pg-tide-torture torture --for $(TORTURE_FOR) --postgres newest --dir $(TORTURE_DIR)/newest

install: ## place the extension's files where pg_config says: make install PG_CONFIG=/path/to/pg_config
	$(GO) run ./cmd/pg-tide extension --dest "$$($(PG_CONFIG) --sharedir)/extension"

clean: ## remove what build made
	rm -rf bin dist $(TORTURE_DIR)
