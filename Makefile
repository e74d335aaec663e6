# The targets set up everything themselves; see README.md.

CARGO ?= cargo
PYTHON ?= python3
WITH_POSTGRES = $(PYTHON) deploy/local/with_postgres.py --
TOOLS = $(PYTHON) deploy/local/tools.py
# nextest is used if it is installed, as it is quicker; both run the same tests.
HAS_NEXTEST = $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)
RUN_TESTS = $(if $(HAS_NEXTEST),nextest run,test)
# Ignored tests, of the whole workspace like the others: with the same features nothing is built again.
RUN_SIP_TESTS = $(RUN_TESTS) --workspace $(if $(HAS_NEXTEST),--run-ignored only,-- --ignored)

# Programs that a target runs. They are chosen by name, from the whole workspace: so they are built with the features
# that `make build` gives them, and nothing is built twice.
DEMO_PROGRAMS = --bin campaign-demo --bin campaign-service --bin dialer-worker
SIP_DEMO_PROGRAMS = --bin sip-demo --bin campaign-service --bin dialer-worker
SERVE_PROGRAMS = --bin campaign-service --bin dialer-worker --bin campaignctl
# Fails with words on how to get a program that is not there.
need = @command -v $(firstword $(1)) >/dev/null || { echo "$(firstword $(1)) is missing: $(2)" >&2; exit 1; }
# Tells how long the first build takes, if it is the first.
tell_first_build = @test -e target/debug/$(1) || echo "The first build takes about $(2) minutes on two cores; later ones take seconds."

.PHONY: prerequisites help build demo sip-demo serve test test-sip image-check chaos chaos-mutations mutants fuzz bench soak scale bench-sip compatibility lint advisories fmt

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

prerequisites:
	$(call need,$(CARGO),install Rust (https://rustup.rs))
	$(call need,$(or $(CC),cc),install a C compiler (Debian: apt-get install build-essential))
	$(call need,$(PYTHON),install Python 3 (Debian: apt-get install python3 python3-pip))

build: prerequisites ## Build everything
	$(call tell_first_build,chaos,8)
	$(CARGO) build --workspace

demo: prerequisites ## Run the main job: import, launch, pause, resume, cancel, launch again
	$(call tell_first_build,campaign-demo,3)
	$(CARGO) build $(DEMO_PROGRAMS)
	@$(WITH_POSTGRES) target/debug/campaign-demo

sip-demo: prerequisites ## Run a campaign over real SIP against sipp, and compare both sides' counts
	$(call need,sipp,install it (Debian: apt-get install sip-tester))
	$(call tell_first_build,sip-demo,3)
	$(CARGO) build $(SIP_DEMO_PROGRAMS)
	@$(WITH_POSTGRES) target/debug/sip-demo

serve: prerequisites ## Serve on port 50051 with a private PostgreSQL, until interrupted; prints what to type
	$(call tell_first_build,campaign-service,3)
	$(CARGO) build $(SERVE_PROGRAMS)
	@$(WITH_POSTGRES) $(PYTHON) deploy/local/serve.py target/debug

# Debian keeps servers in a folder that only root has in its path.
HAS_SIP_PEERS := PATH="$$PATH:/usr/sbin"; command -v sipp >/dev/null && command -v baresip >/dev/null && \
	command -v kamailio >/dev/null && command -v dnsmasq >/dev/null && ls /usr/lib/*/kamailio/modules/tls.so >/dev/null 2>&1
GET_SIP_PEERS := apt-get install sip-tester baresip-core kamailio kamailio-tls-modules dnsmasq-base

test: prerequisites ## Run all tests, against a private PostgreSQL unless DATABASE_URL is set
	$(PYTHON) -m unittest discover -s deploy/local
	$(PYTHON) -m unittest discover -s deploy/chaos
	@tools=$$($(TOOLS)) && eval "$$tools" && PYTHONPATH=$$CAMPAIGN_PYTHONPATH $(PYTHON) -m unittest discover -s deploy/kubernetes
	$(CARGO) build --workspace --all-targets
	@tools=$$($(TOOLS)) && eval "$$tools" && $(WITH_POSTGRES) $(CARGO) $(RUN_TESTS) --workspace
	@if $(HAS_SIP_PEERS); then $(MAKE) --no-print-directory test-sip; \
	else echo "NOT RUN: tests of SIP calls. They need sipp, kamailio, baresip and dnsmasq: $(GET_SIP_PEERS); then make test-sip"; fi

test-sip: ## Run the tests that need programs of others: sipp, kamailio, baresip, dnsmasq
	@$(HAS_SIP_PEERS) || { echo "sipp, kamailio, baresip or dnsmasq is missing: $(GET_SIP_PEERS)"; exit 1; }
	@$(WITH_POSTGRES) $(CARGO) $(RUN_SIP_TESTS)

# image-check is not part of `make test`: it needs root, buildah and debootstrap (Debian packages), and a release build.
image-check: ## Build both images with buildah, inspect, measure and start them
	@tools=$$($(TOOLS)) && eval "$$tools" && PYTHONPATH=$$CAMPAIGN_PYTHONPATH $(WITH_POSTGRES) $(PYTHON) deploy/image/check.py

FUZZ_INPUTS ?= 1000000
fuzz: ## Read FUZZ_INPUTS (1000000) made-up inputs of each kind with everything that faces outside (release build)
	FUZZ_INPUTS=$(FUZZ_INPUTS) $(CARGO) test --release -p campaign-service --lib fuzz
	FUZZ_INPUTS=$(FUZZ_INPUTS) $(CARGO) test --release -p dialer-worker --lib -- nobody_else_signs any_caller any_callback any_event

# `target/debug/chaos --help` lists CHAOS_HISTORIES, CHAOS_SEED and more. CHAOS_PROFILE=release builds longer and plays
# nearly twice as many histories in the same time.
CHAOS_PROFILE ?= debug
chaos: ## Break everything around many campaigns, and judge whether the promises held
	$(CARGO) build $(if $(filter release,$(CHAOS_PROFILE)),--release -p campaign-chaos -p campaign-service -p dialer-worker,--workspace)
	@$(WITH_POSTGRES) target/$(CHAOS_PROFILE)/chaos

chaos-mutations: build ## Break the code on purpose, and expect the faults to show it
	@$(WITH_POSTGRES) $(PYTHON) deploy/chaos/mutations.py

# A whole run takes about 25 minutes on two cores. Tests must notice at least MUTANTS_SHARE percent of the changes;
# .cargo/mutants.toml lists the changes that no test can notice. MUTANTS_OPTIONS may choose a part:
# --file shared/domain/src/caps.rs
# Each job has a target directory of its own: in a shared one, it may test the change of the other.
MUTANTS_SHARE = 95
mutants: prerequisites ## Change the domain's rules one by one, and expect its tests to fail (cargo install cargo-mutants)
	$(call need,cargo-mutants,cargo install cargo-mutants)
	@env -u CARGO_TARGET_DIR $(CARGO) mutants -p campaign-domain --jobs 2 --output target $(MUTANTS_OPTIONS); code=$$?; \
	case $$code in 0|2|3) ;; *) exit $$code ;; esac; cd target/mutants.out && \
	noticed=$$(cat caught.txt timeout.txt | wc -l) && all=$$(cat caught.txt timeout.txt missed.txt | wc -l) && \
	echo "tests noticed $$noticed of $$all changes; at least $(MUTANTS_SHARE)% are expected" && \
	test $$all -gt 0 && test $$((noticed * 100)) -ge $$((all * $(MUTANTS_SHARE)))

compatibility: build ## Run programs of COMPATIBILITY_BASE (a tag or commit) and of this version together, also under faults
	@$(PYTHON) deploy/compatibility/check.py

# A whole run takes about 25 minutes on two cores.
# BENCH_ONLY=dispatch,import,control,stop,lead,excluded,snapshot,memory,size,overload,observe,calls,fleet chooses parts.
# Sizes and rounds: cargo bench -p campaign-service --bench suite -- --help
bench: ## Measure everything beside references, on one PostgreSQL (release build, about 25 minutes)
	$(CARGO) build --release -p dialer-worker -p campaign-sip
	$(CARGO) bench -p campaign-service --bench suite --no-run
	@if [ "$$BENCH_PEERS" != 0 ]; then BENCH_PEERS_HOME=$$($(PYTHON) deploy/bench/peers.py) || exit 1; \
	export BENCH_PEERS_HOME; fi; $(WITH_POSTGRES) $(CARGO) bench -q -p campaign-service --bench suite

soak: ## Dispatch for SOAK_MINUTES (20) and compare the last minute with the first
	$(CARGO) bench -p campaign-service --bench suite --no-run
	@BENCH_ONLY=soak BENCH_JSON=$(CURDIR)/target/soak.json $(WITH_POSTGRES) \
	$(CARGO) bench -q -p campaign-service --bench suite

scale: ## Measure what up to 100,000 campaigns and 10,000 workers cost (release build, about 10 minutes)
	$(CARGO) bench -p campaign-service --bench suite --no-run
	@BENCH_ONLY=scale BENCH_JSON=$(CURDIR)/target/scale.json $(WITH_POSTGRES) \
	$(CARGO) bench -q -p campaign-service --bench suite

bench-sip: ## Measure the providers of the worker beside sipp (release build; BENCH_SIP_CALLS)
	$(CARGO) build --release -p dialer-worker -p campaign-sip
	@target/release/bench-sip

# Base of the API check: the point where this branch left main, or on main itself the previous commit. Any tag or
# commit will do.
API_BASE ?= $(shell base=$$(git merge-base HEAD main 2>/dev/null); \
	[ -n "$$base" ] && [ "$$base" != "$$(git rev-parse HEAD)" ] && echo $$base || git rev-parse -q --verify HEAD^1)

lint: ## Check texts, layers, formats, lints and protos, and that the API breaks no client of API_BASE
	$(PYTHON) deploy/local/voice.py
	$(PYTHON) deploy/local/layers.py
	$(CARGO) fmt --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@tools=$$($(TOOLS)) && eval "$$tools" && $$CAMPAIGN_BUF lint proto && $$CAMPAIGN_HADOLINT deploy/image/Dockerfile \
	&& if [ -n "$(API_BASE)" ]; then git archive $(API_BASE) proto | $$CAMPAIGN_BUF breaking proto --against -#format=tar,subdir=proto; \
	else echo "NOT CHECKED: whether the API breaks clients, as there is no commit before this one; name one with API_BASE"; fi
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check bans licenses sources; \
	else echo "cargo-deny is not installed: dependencies not checked (cargo install cargo-deny)"; fi

advisories: ## Look for known faults of the dependencies, from a list that is fetched (cargo install cargo-deny)
	$(CARGO) deny check advisories

fmt: ## Format the code
	$(CARGO) fmt
