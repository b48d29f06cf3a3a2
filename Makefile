# grantd: checks, measurements, installation. `make help` lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO   ?= cargo
DESTDIR ?=
PREFIX  ?= /usr/local

BINDIR      := $(PREFIX)/bin
DOCDIR      := $(PREFIX)/share/doc/grantd
SCHEMADIR   := $(PREFIX)/share/grantd/schemas
UNITDIR     := $(PREFIX)/lib/systemd/system
USERUNITDIR := $(PREFIX)/lib/systemd/user
SYSUSERSDIR := $(PREFIX)/lib/sysusers.d
TMPFILESDIR := $(PREFIX)/lib/tmpfiles.d

OIDC := tests/oidc-provider
# In tenths, as systemd-analyze wants it.
MOST_EXPOSURE := 15
SCHEMAS := $(wildcard schemas/*.json)
FUZZ_SECONDS ?= 30
FUZZ_LIMITS = -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -max_len=65536
BENCHES := $(filter-out refresh socket,$(basename $(notdir $(wildcard benches/*.rs))))

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

## Checks

.PHONY: test
test: tools $(OIDC)/node_modules/.package-lock.json ## everything that has to hold before a change is taken
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --features failpoints --lib --test chaos -- -D warnings
	$(CARGO) test --locked
	@$(MAKE) --no-print-directory units
	@if $(CARGO) fuzz --version >/dev/null 2>&1; then $(MAKE) --no-print-directory fuzz FUZZ_SECONDS=5; \
	else echo "cargo-fuzz is missing, so nothing is fuzzed: cargo install --locked cargo-fuzz"; fi
	@echo "make test: everything holds"

.PHONY: layers
layers: ## only the rules of the source tree
	$(CARGO) test --locked --test layers

# ONLY=keep. plays the cells with that in their name; SEED=1 repeats a run.
.PHONY: chaos
chaos: ## strike the daemon at every failpoint and count what is lost
	SEED=$(SEED) $(CARGO) test --locked --features failpoints --test chaos -- "$(ONLY)"

# The sanitizer wants an unstable option, hence RUSTC_BOOTSTRAP. The definitions are what the second target begins with. What is
# found lies in fuzz/artifacts.
.PHONY: fuzz
fuzz: ## each fuzz target for FUZZ_SECONDS (30); needs cargo-fuzz
	@mkdir -p fuzz/corpus/provider_answer fuzz/corpus/definition
	RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run provider_answer fuzz/corpus/provider_answer -- $(FUZZ_LIMITS) -dict=fuzz/answers.dict
	RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run definition fuzz/corpus/definition providers -- $(FUZZ_LIMITS)

.PHONY: units
units: ## the sandbox of the systemd unit
	@if [[ "$$(systemd-analyze --help 2>/dev/null)" == *--offline* ]]; then \
	  score=$$(systemd-analyze security --offline=true --threshold=$(MOST_EXPOSURE) systemd/grantd.service) || { \
	    echo "$$score" | grep -v '✓'; echo "grantd.service is more exposed than $(MOST_EXPOSURE) tenths"; exit 1; }; \
	  echo "$$score" | tail -n 1; \
	else \
	  echo "systemd-analyze is missing or too old: the sandbox of the unit is not checked"; \
	fi

# What the tests need besides Rust: a C compiler for SQLite and the cryptography, Node.js for the OpenID provider.
.PHONY: tools
tools:
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust as rust-version in Cargo.toml says"; exit 1; }
	@missing=; \
	command -v cc >/dev/null || missing="$$missing gcc libc6-dev"; \
	command -v node >/dev/null || missing="$$missing nodejs"; \
	command -v npm >/dev/null || missing="$$missing npm"; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -q; \
	    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing; \
	  else \
	    echo "missing, install them first:$$missing"; exit 1; \
	  fi; \
	fi
	@node -e 'if (parseInt(process.versions.node) < 20) { console.log("Node.js 20 or later is needed"); process.exit(1) }'

# npm writes this file last, so its age tells whether the packages are those of the lock file.
$(OIDC)/node_modules/.package-lock.json: $(OIDC)/package.json $(OIDC)/package-lock.json $(OIDC)/.npmrc
	cd $(OIDC) && npm ci --no-audit --no-fund
	@touch $@

## Measurements

.PHONY: bench
bench: ## every benchmark; the socket last
	$(if $(BENCHES),$(CARGO) bench --locked $(addprefix --bench ,$(BENCHES)))
	@$(MAKE) --no-print-directory bench-refresh
	@$(MAKE) --no-print-directory bench-socket

.PHONY: bench-socket
bench-socket: ## a cached token over the socket against an empty route of the same server
	$(CARGO) bench --locked --bench socket

.PHONY: bench-refresh
bench-refresh: ## durable refreshes a second, and what a million stored connections cost
	$(CARGO) bench --locked --bench refresh

## Installation

.PHONY: build
build: ## the release binary
	$(CARGO) build --locked --release

# Not `build`: whoever installs is root, and root need not have a compiler.
target/release/grantd:
	@$(MAKE) --no-print-directory build

# The units name the binary where it really is.
.PHONY: install
install: target/release/grantd ## install below PREFIX (/usr/local), with DESTDIR in front; after `make build`
	install -d $(addprefix $(DESTDIR),$(BINDIR) $(DOCDIR) $(SCHEMADIR) $(UNITDIR) $(USERUNITDIR) $(SYSUSERSDIR) $(TMPFILESDIR))
	install -m 0755 target/release/grantd $(DESTDIR)$(BINDIR)/grantd
	@for unit in grantd.service grantd.socket user/grantd.service user/grantd.socket; do \
	  case $$unit in user/*) to=$(USERUNITDIR);; *) to=$(UNITDIR);; esac; \
	  sed -e 's|/usr/bin/grantd|$(BINDIR)/grantd|' -e 's|/usr/share/doc/grantd|$(DOCDIR)|' systemd/$$unit > $(DESTDIR)$$to/$${unit#user/}; \
	  chmod 0644 $(DESTDIR)$$to/$${unit#user/}; \
	done
	install -m 0644 systemd/grantd.sysusers $(DESTDIR)$(SYSUSERSDIR)/grantd.conf
	install -m 0644 systemd/grantd.tmpfiles $(DESTDIR)$(TMPFILESDIR)/grantd.conf
	install -m 0644 README.md CHANGELOG.md SECURITY.md docs/OPERATIONS.md docs/ARCHITECTURE.md docs/REFRESH.md docs/PROVIDERS.md docs/SEALING.md examples/grantd.yaml LICENSE-MIT LICENSE-APACHE $(DESTDIR)$(DOCDIR)/
	$(if $(SCHEMAS),install -m 0644 $(SCHEMAS) $(DESTDIR)$(SCHEMADIR)/)
	@echo "installed. The next steps are in $(DOCDIR)/OPERATIONS.md"

.PHONY: uninstall
uninstall: ## remove what install put there; configuration, root key and store stay
	rm -f $(DESTDIR)$(BINDIR)/grantd
	rm -f $(addprefix $(DESTDIR)$(UNITDIR)/,grantd.service grantd.socket)
	rm -f $(addprefix $(DESTDIR)$(USERUNITDIR)/,grantd.service grantd.socket)
	rm -f $(DESTDIR)$(SYSUSERSDIR)/grantd.conf $(DESTDIR)$(TMPFILESDIR)/grantd.conf
	rm -rf $(DESTDIR)$(DOCDIR) $(DESTDIR)$(PREFIX)/share/grantd
