"""From 160 dialogues to 115 thousand and on: what it takes, and how many machines share it.

    arithmetic.py   requests, tokens, hours, dollars and bytes of a corpus that is not made yet
    cluster.py      a small Ray cluster on this machine, for trying; the only part that starts Ray
    shards.py       seeds cut into files, and which of these files are done
    generation.py   self-chat shard by shard as Ray Data stages; a worker may be killed at any moment
    pooled.py       statistics and cleaning of many files as Ray Data, with the results of one machine
    relay.py        an endpoint in front of an endpoint, which counts the requests
    launching.py    training in several processes and on several machines: accelerate's settings in launch/

Ray comes with the `scale` extra; only cluster.py, generation.py and pooled.py need it. Built in notebook 08.
"""
