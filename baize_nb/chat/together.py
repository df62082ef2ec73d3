"""Sessions of one model that answer side by side, which an endpoint with as many slots rewards.

Knows: which session is free. Does not know: what is asked, or what becomes of an answer. Used by notebooks 05 to 07.
"""

from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue


def side_by_side(sessions, jobs, ask):
    """Iterator over (place, ask(session, job)) of each of `jobs`, as they finish; place: that of the job in the list.

    sessions : each does one job at a time. Whatever ends this early (an error, an interrupt, a caller who has had
    enough) also stops the replies that are under way, and no other is begun.
    """
    free = SimpleQueue()
    for session in sessions:
        free.put(session)

    def one(job):
        session = free.get()
        try:
            return ask(session, job)
        finally:
            free.put(session)

    with ThreadPoolExecutor(len(sessions)) as pool:
        places = {pool.submit(one, job): place for place, job in enumerate(jobs)}
        try:
            for done in as_completed(places):
                yield places[done], done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for session in sessions:
                session.stop()
            raise
