"""Register the ``datamover`` service with twistd."""

from twisted.application.service import ServiceMaker

datamover = ServiceMaker("datamover", "datamover.tap", "Move files for other programs.", "datamover")
