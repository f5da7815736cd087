"""``twistd -ny datamover.tac``: for a configuration that $DATAMOVER_CONFIG or one of the usual places names."""

from twisted.application.service import Application

from datamover.tap import Options, makeService

options = Options()
options.parseOptions([])
application = Application("datamover")
makeService(options).setServiceParent(application)
