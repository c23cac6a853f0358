# The commands a newcomer needs. Each does all its own set-up.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Downloads, test servers and compiled code stand outside the checkout, for all clones alike.
TIDEMILL_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tidemill
CARGO_TARGET_DIR ?= $(TIDEMILL_CACHE)/target
override TIDEMILL_CACHE := $(abspath $(TIDEMILL_CACHE))
override CARGO_TARGET_DIR := $(abspath $(CARGO_TARGET_DIR))
export TIDEMILL_CACHE CARGO_TARGET_DIR
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

# What `make setup` prepares: demo, test or bench.
LEVEL ?= test

.PHONY: help setup build demo test lint bench bench-peer conformance conformance-random sim chaos steady memory formats

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "make %-18s %s\n", $$1, $$2 }'

setup: ## install what is missing on this machine (LEVEL=demo, test or bench)
	@deploy/setup/packages $(LEVEL)

build: ## build bin/tidemill
	@deploy/setup/packages demo
	@deploy/setup/claim
	@deploy/setup/build

demo: build ## a year of flights, with no server; or with BROKER=host:port REGISTRY=url
	@data="$$(deploy/setup/data)" && exec bin/tidemill demo --data "$$data" \
	    $(if $(BROKER),--broker '$(BROKER)') $(if $(REGISTRY),--registry '$(REGISTRY)')

lint: ## format check and clippy, warnings denied
	@deploy/setup/packages test
	@deploy/setup/claim
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

# Tests wait for servers more than they work: twice as many at once as there are processors.
test: lint build ## all checks and tests, also on a real Kafka and registry
	@data="$$(deploy/setup/data)" && avro="$$(deploy/setup/jars tests/avro_judge 'Java Avro 1.12.1 (6 MB)')" && \
	    TIDEMILL_DATA="$$data" TIDEMILL_TEST_AVRO="$$avro" exec tests/servers/run -- \
	    cargo test --locked -- --test-threads=$$((2 * $$(nproc)))

bench: ## the figures of the README, measured on this machine
	@deploy/setup/packages bench
	@deploy/setup/claim
	@deploy/setup/build
	@data="$$(deploy/setup/data)" && TIDEMILL_DATA="$$data" exec tests/servers/run -- \
	    cargo bench --locked --profile dev --config 'profile.dev.package.tidemill.opt-level=3'

conformance: ## ask Kafka Streams anew what every scenario gives, and compare
	@deploy/setup/packages test
	@tests/conformance/oracle/run tests/conformance/scenarios --out tests/conformance/golden
	@git diff --exit-code --stat -- tests/conformance/golden
	@deploy/setup/claim
	cargo test --locked --test it conformance::

# How many pairs, and the first one's seed.
N ?= 200
SEED ?= 1

conformance-random: ## random topologies and inputs, given to both (N=pairs SEED=first)
	@deploy/setup/packages test
	@deploy/setup/claim
	@TIDEMILL_CASES='$(N)' TIDEMILL_SEED='$(SEED)' cargo test --locked --test it conformance_random -- --ignored --nocapture

bench-peer: ## the same work by Kafka Streams, tidemill and a bare consumer, in turn (ARGS=… as in benches/peer/run)
	@exec benches/peer/run $(ARGS)

# How many seeds, and the first one; or one alone, with all that happens in it.
SEEDS ?= 10000
FIRST ?= 1

sim: ## simulate instances and faults, by seed (SEEDS=how many FIRST=first, or SEED=one)
	@deploy/setup/packages test
	@deploy/setup/claim
	@TIDEMILL_SIM_SEED='$(if $(filter file,$(origin SEED)),,$(SEED))' TIDEMILL_SIM_SEEDS='$(SEEDS)' TIDEMILL_SIM_FIRST='$(FIRST)' \
	    cargo test --locked --config 'profile.dev.package.tidemill.opt-level=3' --test it \
	    seeds_that_were_asked_for -- --ignored --nocapture

# How many blows, and the orders a second.
KILLS ?= 300
RATE ?= 300

chaos: build ## kill daemons, brokers and links of a real cluster (KILLS=how many RATE=orders a second)
	@TIDEMILL_CHAOS_KILLS='$(KILLS)' TIDEMILL_CHAOS_RATE='$(RATE)' TIDEMILL_CHAOS_SEED='$(SEED)' tests/servers/run --only registry -- \
	    cargo test --locked --test it kills_that_were_asked_for -- --ignored --nocapture

# How long.
MINUTES ?= 60

steady: build ## watch daemons under a steady load, and draw what they hold (MINUTES=how long RATE=orders a second)
	@TIDEMILL_STEADY_MINUTES='$(MINUTES)' TIDEMILL_STEADY_RATE='$(RATE)' TIDEMILL_STEADY_PLOT='$(CURDIR)/docs/operations/steady.svg' \
	    tests/servers/run --only registry -- \
	    cargo test --locked --test it a_steady_load_that_was_asked_for -- --ignored --nocapture

# How many keys, each in ten stores of 16 tasks, and the budget in MiB.
KEYS ?= 1000000
MIB ?= 256

memory: ## show a daemon's resident size beside its memory budget (KEYS=how many MIB=budget)
	@deploy/setup/packages test
	@deploy/setup/claim
	@TIDEMILL_MEMORY_KEYS='$(KEYS)' TIDEMILL_MEMORY_MIB='$(MIB)' tests/servers/run -- \
	    cargo test --locked --config 'profile.dev.package.tidemill.opt-level=3' --test it \
	    the_process_stays_within_the_budget_that_was_asked_for -- --ignored --nocapture

formats: ## keep bytes of today's formats, when their version changes
	@deploy/setup/packages test
	@deploy/setup/claim
	@cargo test --locked --test it bytes_of_today_are_kept -- --ignored
