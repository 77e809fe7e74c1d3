# `make` lists the targets. CI runs `make test` (.ci/run).

GO ?= go
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0
VULNDB      = golang.org/x/vulndb
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

# What can be tested without a mount; the rules of the house are of lint.
ROOMS = ./journal ./cache ./writeback ./fs $(shell $(GO) list ./internal/... | grep -v internal/house)
UNIT  = ./cmd/... ./deploy $(ROOMS) ./integration/harness/...

# -count=1: a test that passed yesterday on another kernel or disk has said
# nothing about this one.
TEST := $(GO) test -count=1

FUZZ_TIME ?= 30s
CHAOS_TIME ?= 5m
POWER_CUTS ?= 300
POWER_SEED ?= 1
DAMAGES    ?= 1000
CRASH_EVERY ?= false

.PHONY: help build install uninstall demo test tools lint unit race integration package release crash damage power chaos conformance bench bench-rooms fuzz vuln cover clean

help: ## print this list
	@awk -F ' ## ' '/^[a-z-]+:.* ## /{ sub(/:.*/, "", $$1); printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/ossmount, static
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ossmount ./cmd/ossmount

# PREFIX (/usr/local) and DESTDIR as usual; deploy/packages/install has the places.
export PREFIX DESTDIR

install: ## install bin/ossmount, its manual, completions and unit beneath PREFIX (/usr/local)
	@deploy/packages/install

uninstall: ## take away what install has installed; configurations and caches stay
	@deploy/packages/install uninstall

demo: ## kill the daemon in the middle of a big upload and watch it go on
	$(GO) run ./integration/demo

# The order is that of what fails soonest.
test: tools lint unit race conformance package integration ## everything that CI runs: lint, unit, race, conformance, package, integration

tools: ## install what the tests run beside Go (.ci/tools)
	@.ci/tools

lint: ## gofmt, the rules of the house (internal/house), go vet, staticcheck
	@test -z "$$(gofmt -l .)" || { echo 'gofmt these files:'; gofmt -l .; exit 1; }
	$(TEST) ./internal/house
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

unit: ## the tests of the rooms, without a mount
	$(TEST) -timeout=20m $(UNIT)

race: ## the same under the race detector, where there are goroutines
	CGO_ENABLED=1 $(TEST) -race -timeout=40m $(ROOMS)

integration: ## the built binary, real mounts, an OSS server (needs /dev/fuse and what .ci/run installs)
	$(TEST) -timeout=45m ./integration

package: ## the packages, the container and the way of a newcomer: built, installed, mounted, taken away again
	$(TEST) -timeout=20m ./integration/release

release: ## archives, deb and rpm of this commit for amd64 and arm64, with checksums, into dist/
	GO=$(GO) deploy/packages/release

crash: ## kill the daemon at every point between two durable steps, in each of twenty cases; CRASH_EVERY=true: at every passing, and again in the start after it (half an hour)
	$(TEST) -timeout=3h ./integration -run=TestCrashAtEveryPoint -v -crash.every=$(CRASH_EVERY)

damage: ## mount DAMAGES (1000) cache directories whose journal was damaged at random
	$(TEST) -timeout=3h ./integration -run=TestDamagedJournals -v -damage.count=$(DAMAGES)

power: ## cut the power of a machine on which programs write, POWER_CUTS (300) times, drawn from POWER_SEED (1)
	$(TEST) -timeout=3h ./integration -run='^TestPowerCuts' -v -power.cuts=$(POWER_CUTS) -power.seed=$(POWER_SEED) -power.every

chaos: ## programs that write while daemon and server are killed and requests fail, for CHAOS_TIME (5m)
	$(TEST) -timeout=2h ./integration -run=TestChaos -v -chaos.time=$(CHAOS_TIME)

conformance: ## the test suites of the OSS SDK, from the module cache, against the built-in server
	$(GO) run ./internal/ossemu/conformance

bench: ## real mounts beside the bare disk, go-fuse's loopback and the plain SDK, as docs/performance.md has it (half an hour); BENCH_ARGS='-rounds=1 -only=^cp'
	$(GO) run ./integration/bench $(BENCH_ARGS)

bench-rooms: ## the benchmarks of single rooms, and those of real mounts that compare ossmount with itself
	$(GO) test -run='^$$' -bench=. -benchmem $(ROOMS)
	$(GO) test -run='^$$' -bench=. ./integration

fuzz: ## each fuzz target for FUZZ_TIME (30s)
	@grep -rH '^func Fuzz' --include='*_test.go' . | sed 's|/[^/:]*:func \([A-Za-z0-9_]*\).*| \1|' | while read -r dir name; do \
		echo "$(GO) test $$dir -fuzz=$$name"; \
		$(GO) test "$$dir" -run='^$$' -fuzz="^$$name$$" -fuzztime=$(FUZZ_TIME) -fuzzminimizetime=10x || exit 1; done

# The database is a Go module too, so the module proxy suffices.
vuln: ## known vulnerabilities in what is linked in, with the toolchain that go.mod names
	@mkdir -p bin
	$(GO) run $(VULNDB)/cmd/indexdb@latest -vulns "$$($(GO) mod download -json $(VULNDB)@latest | sed -n 's/^\t"Dir": "\(.*\)",$$/\1/p')/data/osv" -out $(CURDIR)/bin/vulndb
	GOTOOLCHAIN=auto $(GO) run $(GOVULNCHECK) -db file://$(CURDIR)/bin/vulndb ./...

cover: ## how much of each package its tests and those of the others reach
	@mkdir -p bin
	$(TEST) -timeout=15m -coverpkg=./... -coverprofile=bin/cover.out $(UNIT)
	$(GO) tool cover -func=bin/cover.out | tail -1

clean: ## remove what was built
	rm -rf bin dist
