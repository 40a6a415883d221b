# nanotun's build and tests.  'make help' lists what there is to do.
#
# PYTHON  the Python 3.11 or newer to make .venv with
# PROXY   'make run' takes this proxy as the upstream, instead of one of its own
# SUITES  what 'make test' runs: unit, go, e2e, or modules such as tests.e2e.test_run
# DISTRO  the system of 'make bare', 'make deb' and 'make test-deb': bookworm, trixie or noble;
#         TARGETS is what 'make bare' makes there
# PREFIX  where 'make install' puts it; DESTDIR stands for / while a package is made

PYTHON ?= python3
PROXY ?=
SUITES ?= unit go e2e
DISTRO ?= trixie
TARGETS ?= run test
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=

VENV := .venv
BIN := $(VENV)/bin
LIBRARY := nanotun/engine/libnetstack.so
NETSTACK := $(shell find netstack -type f ! -name '*_test.go' ! -name '.*')
CODE := nanotun twisted tests benchmarks tools setup.py
GO = $(shell $(BIN)/python tools/golang.py go)

export PYTHON PREFIX SYSCONFDIR DESTDIR
export GOTOOLCHAIN := local

.PHONY: help build run test check lint bench wheel sdist test-wheel install uninstall texts clean \
    packages test-packages wheel-packages image-packages test-image-packages \
    deb-packages bare image test-image deb \
    test-deb test-repeat

# They share .venv.
.NOTPARALLEL:

help:
	@echo 'make build   everything into $(VENV), with the native library'
	@echo 'make run     see it work, in network namespaces of its own (root);'
	@echo '             PROXY=socks5://host:port takes your proxy as the upstream'
	@echo 'make test    unit tests, go test -race, end-to-end tests (root);'
	@echo '             SUITES="unit tests.e2e.test_run" runs only these'
	@echo 'make check   ruff, mypy, gofmt, go vet and the unit tests'
	@echo 'make bench   how fast it is here, as ratios to the kernel (root)'
	@echo 'make wheel   wheels for x86-64 and arm64 in dist/; make sdist for the source'
	@echo 'make image   a container image in dist/; BASE=debian:12-slim begins with that one;'
	@echo '             make test-image tries it with podman (root)'
	@echo 'make install for the whole machine, below PREFIX=$(PREFIX) (root);'
	@echo '             make uninstall removes all but the configuration and logs'
	@echo 'make deb     the Debian package in dist/, for this system; with DISTRO=bookworm,'
	@echo '             trixie or noble for that one, in a bare root (root)'
	@echo 'make test-deb DISTRO=trixie'
	@echo '             makes it twice, installs, upgrades, removes and purges it (root)'
	@echo 'make texts   what follows from the code: the sample configuration, tables of'
	@echo '             settings, the manual page and the completions'
	@echo 'make bare    TARGETS (by default "run test") of the last commit, in a bare DISTRO:'
	@echo '             bookworm, trixie (the default) or noble (root)'
	@echo 'make site    the documentation as a site, in dist/site'
	@echo 'make release all that a release consists of, in dist/ (root)'
	@echo 'make workflows   checks .github/workflows with actionlint'
	@echo 'make test-repeat make test five times in a row while one core is busy (root)'
	@echo 'make clean   removes what the build made'
	@echo 'make test-wheel  the wheels: auditwheel, a second build, arm64 in an emulator'

# pip compiles what it installs, but not a checkout.  Where byte code is not written on import,
# each start compiles all of nanotun again, which takes longer than everything else it does.
# Files of another user's are left as they are: without byte code things work, too.
build: $(VENV)/installed $(LIBRARY)
	@$(BIN)/python -m compileall -qq nanotun twisted tests benchmarks || true

run: test-packages build
	@$(BIN)/python -m tests.e2e.demo $(if $(PROXY),--proxy '$(PROXY)')

test: test-packages build
	@$(BIN)/python tools/readable.py $(BIN)/python tools/run_tests.py $(SUITES)

# Something else has one core meanwhile, as on a shared machine.
test-repeat: test-packages build
	@taskset -c 0 sh -c 'while :; do :; done' & busy=$$!; trap "kill $$busy" EXIT; \
	for round in 1 2 3 4 5; do \
	    echo "--- round $$round"; $(MAKE) --no-print-directory test || exit; \
	done

check: lint
	@$(BIN)/python tools/run_tests.py unit

lint: build $(VENV)/dev
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	@unformatted=$$("$$(dirname '$(GO)')/gofmt" -l netstack); \
	    test -z "$$unformatted" || { echo "gofmt these: $$unformatted"; exit 1; }
	cd netstack && CGO_ENABLED=1 '$(GO)' vet ./...

bench: test-packages build
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.far

wheel: build $(VENV)/wheel
	@$(BIN)/python tools/wheels.py build check

install: build
	@tools/install.sh install '$(CURDIR)/$(BIN)/python'

uninstall:
	@tools/install.sh uninstall

texts: build
	$(BIN)/python tools/documents.py
	$(BIN)/python tools/manpage.py
	$(BIN)/python tools/completions.py

bare:
	@'$(PYTHON)' tools/bare.py '$(DISTRO)' $(foreach target,$(TARGETS),\
	    'make $(target)$(if $(filter test,$(target)), SUITES="$(SUITES)")')

.PHONY: site site-packages
# The variable keeps an advertisement of its successor away.
site: $(VENV)/docs | site-packages
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo 'dist/site is made; to look at it: $(BIN)/python -m http.server -d dist/site'

# Each part has the time of the commit, so that whoever makes it again gets the same.
.PHONY: release workflows
release: image-packages build $(VENV)/release
	@$(BIN)/python tools/release.py check
	rm -rf dist
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct); export SOURCE_DATE_EPOCH; set -e; \
	    $(MAKE) --no-print-directory wheel; $(MAKE) --no-print-directory sdist; \
	    $(MAKE) --no-print-directory image WHEEL="$$(echo dist/*_x86_64.whl)"; \
	    for distro in bookworm trixie noble; do $(MAKE) --no-print-directory deb DISTRO=$$distro; done; \
	    $(BIN)/python tools/sbom.py dist/*_x86_64.whl dist/*_aarch64.whl
	@$(BIN)/python tools/release.py sums

# Built when it is asked for first, which takes a minute.
workflows: $(VENV)/installed
	'$(GO)' run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

clean:
	rm -rf $(VENV) build dist *.egg-info _trial* .mypy_cache .ruff_cache
	rm -f $(LIBRARY) nanotun/engine/libnetstack.h twisted/plugins/dropin.cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# DISTRO has a default for other targets, which is not meant here.
ifeq ($(filter file undefined,$(origin DISTRO)),)
deb:
	@'$(PYTHON)' tools/deb_roots.py build '$(DISTRO)'
else
deb: deb-packages build
	@$(BIN)/python tools/deb.py build
endif

test-deb:
	@'$(PYTHON)' tools/deb_roots.py test '$(DISTRO)'

packages:
	@tools/bootstrap.sh build

test-packages wheel-packages image-packages test-image-packages deb-packages site-packages: \
    %-packages:
	@tools/bootstrap.sh $*

sdist: build
	@$(BIN)/python tools/wheels.py sdist

test-wheel: wheel-packages wheel
	@$(BIN)/python tools/wheels.py again
	@$(BIN)/python tools/arm64.py

# Without build isolation, so that Go is fetched once and serves 'go test' too.
$(VENV)/installed: pyproject.toml setup.py tools/golang.py tools/nanotun_build.py | packages
	@test -x $(BIN)/python || '$(PYTHON)' -m venv $(VENV)
	@echo 'Installing nanotun and what it needs into $(VENV)'
	@$(BIN)/pip install -q 'setuptools>=77'
	@$(BIN)/python tools/golang.py check
	@$(BIN)/python tools/golang.py go >/dev/null || \
	    $(BIN)/pip install -q "$$($(BIN)/python tools/golang.py package)"
	@$(BIN)/pip install -q --no-build-isolation -e .
	@touch $@

# The extras of pyproject.toml.
$(VENV)/dev $(VENV)/wheel $(VENV)/docs $(VENV)/release: $(VENV)/%: pyproject.toml | $(VENV)/installed
	@$(BIN)/pip install -q --no-build-isolation -e '.[$*]'
	@touch $@

$(LIBRARY): $(NETSTACK) | $(VENV)/installed
	@echo 'Building $@'
	@$(BIN)/python tools/golang.py library
	@touch $@

# WHEEL=FILE names a wheel that is there already.
WHEEL ?=

image: image-packages $(if $(WHEEL),,wheel)
	@$(BIN)/python tools/image.py "$(or $(WHEEL),$$(ls -t dist/nanotun-*_$$(uname -m).whl | head -n 1))"

test-image: test-packages test-image-packages build
	@$(BIN)/python -m twisted.trial tests.image
