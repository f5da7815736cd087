"""``twistd -ny datamover.tac``: run the service with the configuration from $DATAMOVER_CONFIG or a default place."""

from twisted.application.service import Application

from datamover.tap import Options, makeService

options = Options()
options.parseOptions([])
application = Application("datamover")
makeService(options).setServiceParent(application)
