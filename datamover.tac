"""``twistd -ny datamover.tac``: the configuration is found as ``twistd datamover`` finds it, $DATAMOVER_CONFIG first."""

from twisted.application.service import Application

from datamover.tap import Options, makeService

options = Options()
options.parseOptions([])
application = Application("datamover")
makeService(options).setServiceParent(application)
