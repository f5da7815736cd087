"""Tell twistd of the ``datamover`` service."""

from twisted.application.service import ServiceMaker

datamover = ServiceMaker("datamover", "datamover.tap", "Move files for other programs.", "datamover")
