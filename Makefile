# make demo    move a file on this machine, with nothing prepared
# make run     the service in the foreground
# make test    the whole test suite    (needs Debian's packages: make system)
# make faults  inject random faults, for minutes (FAULTS_SEED=… FAULTS_SECONDS=…)
# make fuzz    fuzz the interface with atheris, for minutes (FUZZ_SECONDS=…)
# make clients the programs of docs/api.md in Node and Java (make clients-system installs their packages)
# make places  the conformance suite over Ceph and Keystone (make places-system installs it)
# make lint    ruff and mypy
# make man, make changelog   write the man pages, or CHANGELOG.md, anew
# make bench   datamover beside rclone, aria2, OpenSSH and curl (make bench-system installs them)

PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin

.PHONY: demo run test faults fuzz clients places lint bench format man changelog build system bench-system clients-system places-system clean

demo: $(VENV)/.installed
	@$(BIN)/python examples/demo.py

run: $(VENV)/.installed
	$(BIN)/twistd -n datamover

# More processes than processors share the test files, because most tests wait for servers much of the time.
TESTERS ?= 3

test: $(VENV)/.developing
	$(BIN)/python -m pytest --numprocesses $(TESTERS)

FAULTS_SECONDS ?= 300

faults: $(VENV)/.developing
	FAULTS_SEED=$${FAULTS_SEED:-$$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')} FAULTS_SECONDS=$(FAULTS_SECONDS) \
		$(BIN)/python -m pytest tests/faults/test_random.py -s

FUZZ_SECONDS ?= 300

fuzz: $(VENV)/.developing
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz requests .fuzz/requests -max_total_time=$(FUZZ_SECONDS) -timeout=10 -max_len=20000 -artifact_prefix=.fuzz/
	$(BIN)/python -m tests.fuzz bodies .fuzz/bodies -max_total_time=$(FUZZ_SECONDS) -timeout=10 -max_len=4000 -artifact_prefix=.fuzz/

clients: $(VENV)/.developing
	npm install --prefix .clients --no-save --no-audit --no-fund --loglevel error xmlrpc@1.3.2
	$(BIN)/python -m pytest tests/clients/more_programs.py

places: $(VENV)/.developing
	$(BIN)/python -m pytest tests/protocols/more_places.py

lint: $(VENV)/.developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One row: make bench ROWS=sftp-get
bench: $(VENV)/.developing
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m benchmarks $(ROWS)
	$(BIN)/python -m benchmarks --draw docs/performance.svg

format: $(VENV)/.developing
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What stands elsewhere, made into what others read.
man: $(VENV)/.developing
	$(BIN)/python docs/man.py

changelog:
	$(PYTHON) changelog.d/gather.py > CHANGELOG.md

build: $(VENV)/.developing
	$(BIN)/python -m build

# The servers for the tests, on Debian. The tests start ProFTPD themselves: a newly installed package is masked, so that it
# does not serve the machine's accounts on port 21. Nor does Apache serve its page on port 80, or memcached run besides.
system:
	apt-get update
	apt-get install -y --no-install-recommends openssh-server openssh-client nginx-light postgresql librpc-xml-perl \
		liblwp-protocol-https-perl php-cli php-xmlrpc ruby ruby-xmlrpc libxml2-utils \
		systemd iproute2 faketime curl rclone fuse3 dropbear-bin libnss-wrapper telnet logrotate
	test -x /usr/bin/memcached || systemctl mask memcached.service
	apt-get install -y --no-install-recommends memcached
	test -x /usr/sbin/proftpd || systemctl mask proftpd.service
	apt-get install -y --no-install-recommends proftpd-core proftpd-mod-crypto libwrap0
	test -x /usr/sbin/apache2 || systemctl mask apache2.service
	apt-get install -y --no-install-recommends apache2 libnginx-mod-http-dav-ext
	test -x /usr/sbin/lighttpd || systemctl mask lighttpd.service
	apt-get install -y --no-install-recommends lighttpd lighttpd-mod-webdav
	# vsftpd will not be installed beside ProFTPD: it is unpacked to where the tests look for it.
	cd /tmp && apt-get download vsftpd && dpkg -x vsftpd_*.deb /opt/vsftpd && rm vsftpd_*.deb

# The programs that the benchmarks compare with, on Debian.
bench-system: system
	apt-get install -y --no-install-recommends aria2 lftp

# What the clients in Node and Java run in, on Debian: some 600 MB, half of it npm. Node from elsewhere brings its npm along.
clients-system: system
	apt-get install -y --no-install-recommends default-jdk-headless libaxmlrpc-java
	command -v npm || apt-get install -y --no-install-recommends nodejs npm

# Services that the conformance suite runs over besides, on Debian: Ceph, some 300 MB.
places-system: system
	apt-get install -y --no-install-recommends radosgw ceph-mon ceph-osd ceph-common
	$(PYTHON) -m venv $(VENV)/openstack
	$(VENV)/openstack/bin/python -m pip install --quiet 'keystone>=30,<31' 'swift>=2.38,<3' 'setuptools<81'

$(VENV)/.installed: pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .clients build dist *.egg-info
