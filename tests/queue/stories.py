"""What the tests of a queue put, and how they take it all."""


def records(start, count):
    return [
        {"id": f"id-{number}", "label": str(number % 10)} for number in range(start, start + count)
    ]


def drain(queue, size=100):
    taken = []
    while batch := queue.take(size, timeout=0):
        assert batch.corrupt == []
        taken += batch.records
        queue.commit(batch)
    return taken
