-- Room that destinations are to keep free (keep_free): what transfers have reserved, and which wait for room.

-- What a group wants to write at its destination, from when it was told to wait until it has room; 0: it does not know.
-- While it waits it is "paused", so that claims read past it, and what waits costs them nothing.
ALTER TABLE transfers ADD COLUMN room_wanted bigint;
ALTER TABLE transfers ADD COLUMN room_since timestamptz;   -- since when
-- What a group may write under the lease of this number: bytes of the file, up to room_until. What it had written by
-- then is room_from; NULL: bytes_done does not tell how far it is (a group that is placed together).
ALTER TABLE transfers ADD COLUMN room_lease bigint;
ALTER TABLE transfers ADD COLUMN room_from bigint;
ALTER TABLE transfers ADD COLUMN room_until bigint;
CREATE INDEX transfers_room ON transfers (destination, room_since, id) WHERE state = 'PENDING' AND room_wanted IS NOT NULL;

-- Destinations that keep room free, as last asked. Whoever reserves room there locks the row.
CREATE TABLE rooms (
    destination text PRIMARY KEY,
    free        bigint,                           -- bytes that the place told
    keep        bigint,                           -- keep_free
    under_way   bigint,                           -- bytes that transfers had still to write
    given       bigint NOT NULL DEFAULT 0,        -- bytes that were ever reserved
    asked_at    timestamptz NOT NULL DEFAULT now(), -- for those that wait
    longest     bigint,                           -- the transfer that had waited longest,
    passed      bigint NOT NULL DEFAULT 0         -- and the bytes that others got since
);
