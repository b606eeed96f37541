"""`sinkworker bench`: what sinkworker costs and how fast it is, beside the script that a user would write instead.

What makes the comparison fair:

- All contestants use the same embedded servers, the same log, the same filter, and a new topic each with as many
  partitions. Rounds are interleaved, and each round begins with another contestant.
- The log is [a marker] [the N events] [another marker] [one warm-up record]. A contestant's processes are started for
  its run alone. From the second marker on they bring the warm-up record to the run's topic; what they do there is
  stopped, and begun anew from the first marker: the same processes, with the same connections and the same producer.
- The time runs from the first to the last of the N records that a consumer in another process can see. That consumer
  waits for the first record of any partition and then for the last of each: it does not read what is between, so that
  it takes nothing from the contestants. CPU runs from the word to begin until that last record.
- The script is `script.py`. It has the same producer options, keys and headers as sinkworker, and the client library as
  it comes. It is a program of its own and shares no line with us.
"""
