"""The queue in a stream of Redis or Valkey: what its keys are, who does what, what is recovered.

The keys of `redis://…?stream=results`
--------------------------------------

    results              the stream; each entry has one field, `body`: the record
    {results}:queue      the mark: a random text, made with the stream
    {results}:lock       with `consumers=one`: who takes, until its lease is over
    {results}:replicated with `replicas=`: nothing; see `replication`

The group `publishers` of the stream deals records out with `consumers=many`.

Invariants
----------

* Stream, mark and group are made together, by one script, and removed by nobody of ours.
* Ids grow. Every script first makes sure that stream and mark are there as they were.
* A put is one script: all of its records are appended, and synced together, or none.
* With `consumers=one` only the holder of the lock hands out, and removes from the front.
* With `consumers=many` a record is pending for one consumer from the take to the commit, or to the
  end of the lease.
* What is removed was published: a commit that comes late, or twice, does no harm.

Which trouble each recovery is for
----------------------------------

* The answer to a put was lost: nobody knows whether it was done. `appended` is None: the same is
  put again, and the DB drops repetitions.
* The answer to a take was lost. Alone, the next one reads from the same id again. In the group the
  records are pending for this consumer, and are asked for by that (`SharingConsumer._again`).
* The answer to a commit was lost: the same again changes nothing.
* A consumer was killed, or hangs: its lock or its records are another's after the lease. Woken up,
  it finds that out by its next commit, take or renewal, and begins anew.
* A consumer was closed: it gives back the lock, or leaves its records to whoever asks next.
* The server came back empty, or as an older copy; somebody removed the stream: `identity`.
* The memory is full: puts wait; the lock is taken, and the stream drained, all the same.
* A server that hangs keeps its connections open: each answer has a deadline.
"""
