"""How bytes travel: one module or package for each protocol.

``PLACES`` names those that a registered destination may use; a new one is added here and nowhere else. ``http`` only
reads, from URLs that clients name, and holds no place.
"""

from datamover.protocols.base import PlaceProtocol
from datamover.protocols.local import LOCAL
from datamover.protocols.sftp import SFTP

PLACES: tuple[PlaceProtocol, ...] = (LOCAL, SFTP)
