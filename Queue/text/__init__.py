"""The queue in a text file: how its files look, what is synced when, and what is recovered.

The files of `--queue Queue/log.txt`
------------------------------------

    log.txt              the active segment; producers append to it
    log.<first_seq>.txt  sealed segments; never written again
    log.void-<last_seq>-<inode>.txt
                         void as a whole: its first sync failed, and all of it was to be written
                         again; read by nobody, soon removed
    log.cursor           how far consumers have come
    log.quarantine.txt   corrupt lines and gaps, kept before the cursor passes them
    log.producer.lock    held while a producer appends or seals
    log.consumer.lock    held by the one active consumer

A record is one line of JSON, its number first and its checksum last (`numbered_lines`, and
`DurableText.codec` for what the DB's lines share):

    {"seq":42,"id":"0199…","label":"7","crc":"8d3f01c2"}

The cursor has two slots of 512 bytes, written in turn (`cursor`):

    {"generation":7,"next_seq":1025,"segment":769,"offset":77312,"crc":"0a1b2c3d"}

Invariants
----------

* A segment is only ever appended to; it is neither truncated nor rewritten.
* Numbers increase by one along the lines of a segment, and along the segments by `first_seq`.
* A line numbered at or above the `first_seq` of a later segment is void: it was written there
  again, because a sync of the older file had failed.
* No name is given to two sealed segments, ever. A file that is void as a whole begins with the
  same number as the one that takes its place: hence a name of another kind.
* A sealed segment is removed only after the cursor has passed all of it, durably, in both slots.
* Committed <= handed out <= read, and no number is handed out twice by one consumer.

What is synced when (with `fsync="always"`)
-------------------------------------------

* The folder, when `log.txt` was made or renamed: before anything in it is acknowledged.
* `log.txt`, once for each group of puts: before any of them returns. What was not synced yet, when
  the file is sealed: before it gets its name.
* The quarantine, and then the cursor: before `commit` returns. The cursor twice, one slot after
  the other, before a segment is removed.
* The cursor, once, when a consumer opens it: the last one may have been killed before its sync.

With "interval" the log and the cursor are synced in the background, with "never" by the system.

Which crash each recovery is for
--------------------------------

* The last line lacks its newline (a kill, a full disk or a power loss in the middle of a write):
  until a producer has looked at it, it counts as being written. A line that was cut short is
  overwritten with blanks, for nobody was told of it; anything else gets a newline, so that nothing
  is glued to it, and readers hand it over as corrupt (`torn_end`).
* A line is glued to a torn one (the newline in between was lost with its page): the intact record
  at its end is still handed out (`numbered_lines.salvage`).
* A sync failed: the kernel believes the pages to be clean although they never reached the disk, and
  another sync on that file would succeed and mean nothing. The file is sealed, and the same
  records, with the same numbers, go to a new one (`Writer._replace_after_failed_sync`).
* A power loss took records that a consumer had committed: numbers go on behind the cursor
  (`Writer._recover`), and the gap below it is legal.
* A power loss tore a slot of the cursor: the other one counts; the last batch comes again.
* A power loss took lines that the cursor had passed, and others stand there now: the cursor's
  offset is a hint, believed only if the line before it fits (`Reader._open_at_hint`).
* A producer or a consumer was killed between two steps: a segment sealed with no new `log.txt`, a
  segment committed and not removed, an entry in the quarantine that the cursor has not passed. The
  next one finds each and goes on; what is done twice does no harm.
* A producer was interrupted in this process (Ctrl-C): the queue is to be opened anew
  (`group_commit`). A read was broken off: the reader goes back to what was handed out.
* The disk is full: what was written of a line is blanked, which needs no room. A log with nothing
  left to be read is removed (`disk_room.remove_if_committed`); the cursor's blocks were set aside
  in time, so that a full disk can be drained.
* Bits flipped, or a page was lost: the line is corrupt, its neighbours are not. It and the gap it
  leaves go to the quarantine and to the consumer, once, before the cursor passes them.
"""
